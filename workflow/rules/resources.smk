"""Memory and time that a job asks for: from the size of its input, half as much again with each attempt."""

from shest.encode import device
from shest.run import resources

BLOCK_MB = config["tiles"]["block_px"] ** 2 * 20 / 1e6  # pixels, windows and their copies, for each thread


def sized(base, per_thread=0, **factors):
    """``base``, and as much for each thread and each MB of what is named: an input, or images, shapes, tables."""

    def amount(wildcards, input, attempt, threads):
        def files(name):
            found = input.get(name, [])
            return [found] if isinstance(found, str) else list(found)

        return resources.grown(resources.request(base + per_thread * threads, factors, files), attempt)

    return amount


def gives_gpu(rule):
    """Whether profile or command line give the jobs of a rule a GPU (set-resources)."""
    given = workflow.resource_settings.overwrite_resources.get(rule, {})
    return device.asked_for({name: resource.value for name, resource in given.items()})


def encoder_mb(wildcards, attempt, threads):
    """Memory to load an encoder."""
    return resources.grown(resources.encoder_mb(encoder_config(wildcards), threads), attempt)


def encoding_minutes(rule, share=1):
    """Time to encode a share of a sample's cells."""

    def amount(wildcards, input, attempt, threads):
        cells = share * resources.size_mb([input.tiles]) * 1e6 / resources.BYTES_A_CELL
        return resources.grown(
            resources.encoding_minutes(encoder_config(wildcards), cells, threads, gives_gpu(rule)),
            attempt,
        )

    return amount


def training_minutes(wildcards, input, attempt, threads):
    """Time to train both heads."""
    spent = resources.training_minutes(input.ingest, resources.LONGEST_EMBEDDING, config["train"], threads, gives_gpu("train"))
    return resources.grown(spent, attempt)
