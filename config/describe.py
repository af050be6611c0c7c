"""Writes config/README.md out of the schemas: every key and column with its default. Run by `make docs`."""

from pathlib import Path
from typing import Any

import yaml

from shest.systems import base

HERE = Path(__file__).resolve().parent
SCHEMAS = HERE.parent / "workflow" / "shest" / "run" / "schemas"
HEAD = """# Configuration

Written by `make docs` from `workflow/shest/run/schemas`; edit the descriptions there.

A run is described by a config file and a sample sheet. These configs stand here: `config.yaml` (the embedded demo),
`tiny.yaml` (the same in small, for tests), `kit.yaml` (real bundles, see the README), `spots.yaml` (spots, see
[spots.md](../docs/spots.md)), `bench.yaml`, `bench-kit.yaml` and `bench-her2st.yaml` (every system on the tissue of
these, see [compare.md](../docs/compare.md)), `paper.yaml` (the paper's run, see
[reproduction.md](../docs/reproduction.md)) and `template.yaml` (a start for [your own data](../docs/own-data.md)). A
misspelt key is an error that names the nearest known one.

```bash
snakemake --cores 8 --configfile config/mine.yaml
```

Paths of inputs are absolute, relative to the config file's own folder, or begin with `{results}`, `{fetched}` (the
folder of what is fetched) or an environment variable (`$DATA/bundle`). `results`, `cache.dir` and `fetch.dir` are
written to and are relative to the working directory.

"""
ENCODERS = """
## Encoders

`morphometrics` needs neither weights nor a GPU. Known by name, with weights from the Hugging Face hub: `h-optimus-0`
(the paper's), `resnet50`, `densenet121`, `efficientnet_b0` (ImageNet). On a machine without internet, put
`model.safetensors` and `config.json` into a folder and say so:

```yaml
encoders:
  - {name: h-optimus-0, weights: /models/H-optimus-0}
```

Any other timm backbone is an entry. These four have not been run by this project; check architecture and arguments
against the model card, accept its licence on the hub and set `HF_TOKEN`:

```yaml
encoders:
  - name: uni2-h
    architecture: vit_giant_patch14_224
    arguments:
      {img_size: 224, patch_size: 14, depth: 24, num_heads: 24, init_values: 1.0e-5, embed_dim: 1536,
       mlp_ratio: 5.33334, mlp_layer: SwiGLUPacked, act_layer: silu, no_embed_class: true, reg_tokens: 8}
    weights: hub:MahmoodLab/UNI2-h
    features: 1536
  - name: virchow2
    architecture: vit_huge_patch14_224
    arguments:
      {img_size: 224, init_values: 1.0e-5, reg_tokens: 4, mlp_ratio: 5.3375, mlp_layer: SwiGLUPacked, act_layer: silu,
       global_pool: token}
    weights: hub:paige-ai/Virchow2
    features: 1280
  - name: prov-gigapath
    architecture: vit_giant_patch14_dinov2
    arguments:
      {img_size: 224, patch_size: 16, embed_dim: 1536, depth: 40, num_heads: 24, init_values: 1.0e-5,
       mlp_ratio: 5.33334}
    weights: hub:prov-gigapath/prov-gigapath
    features: 1536
  - name: phikon-v2
    architecture: vit_large_patch16_224
    arguments: {img_size: 224, init_values: 1.0e-5}
    weights: /models/phikon-v2-as-timm  # published in another layout: convert the weights first
    features: 1024
```
"""


def kind(part: dict[str, Any]) -> str:
    """Say what values a key takes."""
    if "enum" in part:
        return " \\| ".join(map(str, part["enum"]))
    if "oneOf" in part:
        return " or ".join(kind(option) for option in part["oneOf"])
    if "const" in part:
        return str(part["const"])
    told = part.get("type", "any")
    return " or ".join(told) if isinstance(told, list) else told


def rows(properties: dict[str, Any], required: list[str], prefix: str = "") -> list[str]:
    """Write one table row a key, sections first by name, then their keys."""
    lines = []
    for name, part in properties.items():
        default = f"`{part['default']}`" if part.get("default") not in (None, {}) else ""
        default = "required" if name in required else default
        lines.append(f"| `{prefix}{name}` | {kind(part)} | {default} | {part.get('description', '')} |")
        inner, label = part, f"{prefix}{name}."
        if isinstance(part.get("additionalProperties"), dict) and "properties" in part["additionalProperties"]:
            inner, label = part["additionalProperties"], f"{prefix}{name}.NAME."
        if part.get("type") == "array" and isinstance(part.get("items"), dict):
            inner = next((o for o in part["items"].get("oneOf", []) if "properties" in o), part)
            label = f"{prefix}{name}[]."
        if "properties" in inner:
            lines += rows(inner["properties"], inner.get("required", []), label)
    return lines


def page() -> str:
    """Write the whole page."""
    config, samples = (yaml.safe_load((SCHEMAS / f"{n}.schema.yaml").read_text()) for n in ("config", "samples"))
    table = ["| key | values | default | meaning |", "|---|---|---|---|"]
    text = HEAD + "## Keys\n\n" + "\n".join(table + rows(config["properties"], config["required"])) + "\n"
    columns = ["| column | values | default | meaning |", "|---|---|---|---|"]
    text += "\n## Columns of the sample sheet\n\n"
    text += "Tab-separated, one row a sample; lines that begin with `#` are comments.\n\n"
    text += "\n".join(columns + rows(samples["properties"], samples["required"])) + "\n"
    return text + settings_of_systems() + ENCODERS


def settings_of_systems() -> str:
    """Write the settings that kinds of systems have beside those of ``train``."""
    text = ""
    for kind_of_system, spec in base.kinds().items():
        if spec.settings:
            table = ["| setting | values | default | meaning |", "|---|---|---|---|"]
            text += f"\n## Settings of systems of kind {kind_of_system}\n\n"
            text += "\n".join(table + rows(dict(spec.settings), [])) + "\n"
    return text


if __name__ == "__main__":
    (HERE / "README.md").write_text(page())
