"""The YAML section that training configurations have."""

import pytest
from warmpath import RouterConfig


def test_the_section_is_found_below_grpo(tmp_path):
    file = tmp_path / "grpo.yaml"
    file.write_text("grpo:\n  max_steps: 3\n  router:\n    enabled: true\n    block_size: 32\n")
    assert RouterConfig.from_yaml(file) == RouterConfig(enabled=True, block_size=32)


def test_the_section_is_found_at_the_top(tmp_path):
    file = tmp_path / "router.yaml"
    file.write_text("router: {enabled: true, base_kv_events_port: 6000}\n")
    assert RouterConfig.from_yaml(file).base_kv_events_port == 6000


@pytest.mark.parametrize("text", ["", "grpo: {}\n", "grpo: {router: null}\n", "policy: {}\n"])
def test_without_a_section_there_is_no_router(tmp_path, text):
    file = tmp_path / "grpo.yaml"
    file.write_text(text)
    assert not RouterConfig.from_yaml(file).enabled


def test_the_command_line_overrides_the_section(tmp_path):
    file = tmp_path / "grpo.yaml"
    file.write_text("grpo: {router: {enabled: true, block_size: 32}}\n")
    overrides = ["grpo.router.enabled=false", "+grpo.router.block_size=16", "grpo.max_steps=3"]
    assert RouterConfig.from_yaml(file, overrides) == RouterConfig(enabled=False, block_size=16)
    with pytest.raises(ValueError, match="did you mean 'enabled'"):
        RouterConfig.from_yaml(file, ["grpo.router.enable=true"])
    with pytest.raises(ValueError, match="has no value"):
        RouterConfig.from_yaml(file, ["grpo.router.enabled"])


def test_an_unknown_field_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'block_size'"):
        RouterConfig.from_mapping({"blocksize": 64})


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ValueError) as caught:
        RouterConfig.from_mapping({"block_size": 0, "base_metrics_port": 70000, "enabled": "yes"})
    for name in ("block_size", "base_metrics_port", "enabled"):
        assert name in str(caught.value)
