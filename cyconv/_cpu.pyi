OPENMP_VERSION: int
FORK_SAFE: bool

def usable_instruction_sets() -> list[str]: ...
