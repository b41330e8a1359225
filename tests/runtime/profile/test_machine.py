"""What a machine says of itself."""

from isplit.runtime.profile.machine import available_memory_bytes, describe_machine, runtime_versions


def test_a_board_with_arm_cores(tmp_path):
    """A Raspberry Pi's /proc names the board under Model; memory is in kibibytes."""
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nBogoMIPS\t: 108.00\n\nModel\t\t: Raspberry Pi 4 Model B\n")
    (tmp_path / "meminfo").write_text("MemTotal:        3884244 kB\nMemAvailable:    3000000 kB\n")

    machine = describe_machine(proc=tmp_path)

    assert "Raspberry Pi 4 Model B" == machine.processor
    assert 3884244 * 1024 == machine.memory_bytes
    assert 3000000 * 1024 == available_memory_bytes(proc=tmp_path)


def test_a_system_without_proc(tmp_path):
    """Where /proc is missing, the machine still has a name, and a gibibyte is taken as free."""
    machine = describe_machine(proc=tmp_path / "none")

    assert machine.processor
    assert machine.memory_bytes is None
    assert 2**30 == available_memory_bytes(proc=tmp_path / "none")


def test_versions():
    """A profile records the libraries that its times depend on."""
    assert {"python", "onnxruntime", "numpy", "pillow", "rans coder"} == set(runtime_versions())
