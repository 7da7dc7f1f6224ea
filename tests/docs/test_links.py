"""Every link in every document leads somewhere."""


def test_links_lead_somewhere(document_name, document):
    here = document(document_name)
    broken = []
    for link in here.links():
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = here.path if not name else (here.path.parent / name).resolve()
        if not target.exists() or (anchor and anchor not in type(here)(target, target.read_text()).anchors()):
            broken.append(link)
    assert not broken


def test_every_document_is_found(document):
    """From the README one gets to every document but those that belong to a distribution."""
    start = document("README.md")
    seen, todo = set(), [start.path]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        if path.is_dir():
            todo += sorted(path.glob("*.md"))
        elif path.suffix == ".md":
            links = type(start)(path, path.read_text(encoding="utf-8")).links()
            todo += [(path.parent / link.partition("#")[0]).resolve() for link in links if "://" not in link]
    wanted = set((start.path.parent / "docs").rglob("*.md")) | set(start.path.parent.glob("*.md"))
    assert not {str(path) for path in wanted - seen}
