"""Who may import whom beyond .importlinter: no cycles, nothing private, kernels by their twins."""

import project
import pytest

KERNELS = "playout.agents.kernels."


def cycles(arrows):
    """Groups of modules that can all be reached from one another."""

    def reached(start):
        found, ahead = set(), [start]
        while ahead:
            fresh = arrows[ahead.pop()] - found
            found |= fresh
            ahead += fresh
        return found

    below = {module: reached(module) for module in arrows}
    groups = {
        frozenset(other for other in below[module] if module in below[other])
        for module in arrows
        if module in below[module]
    }
    return sorted(map(sorted, groups))


def is_private(module):
    return module.rpartition(".")[2].startswith("_") and not module.endswith("__")


def test_cycles_are_found():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == [["b", "c"]]


def test_no_module_imports_itself_through_others():
    assert not cycles(project.arrows(typing=False))


def test_nothing_private_is_imported_across_folders():
    found = [
        f"{module} imports {name}"
        for module, names in project.arrows().items()
        for name in sorted(names)
        if is_private(name) and not name.startswith(KERNELS)
        if name.rpartition(".")[0] not in (module, module.rpartition(".")[0])
    ]
    assert not found


def test_no_private_name_is_imported_from_another_module():
    found = []
    for module, path in project.modules().items():
        for node in project.ast.walk(project.parse(path)):
            if isinstance(node, project.ast.ImportFrom) and (node.module or "").startswith(
                "playout"
            ):
                found += [
                    f"{module} imports {alias.name} of {node.module}"
                    for alias in node.names
                    if is_private(alias.name)
                    and f"{node.module}.{alias.name}" not in project.modules()
                ]
    assert not found


@pytest.mark.parametrize("kernel", sorted(m for m in project.modules() if m.startswith(KERNELS)))
def test_a_compiled_kernel_is_imported_by_its_plain_twin_alone(kernel):
    if not is_private(kernel):
        return
    users = [module for module, names in project.arrows().items() if kernel in names]
    assert len(users) == 1, users
