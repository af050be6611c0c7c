"""Memory and time that a job asks for: from the size of its input, half as much again with each attempt."""

from shest.encode import device
from shest.run import resources
from shest.systems import base

BLOCK_MB = config["tiles"]["block_px"] ** 2 * 20 / 1e6  # pixels, windows and their copies, for each thread


def from_input_size(base, per_thread=0, **factors):
    """``base``, and as much for each thread and each MB of what is named: an input, or images, shapes, tables."""

    def amount(wildcards, input, attempt, threads):
        def files(name):
            paths = input.get(name, [])
            return [paths] if isinstance(paths, str) else list(paths)

        wanted = resources.request_mb(base + per_thread * threads, factors, files)
        return resources.scale_by_attempt(wanted, attempt)

    return amount


def gives_gpu(rule):
    """Whether profile or command line give the jobs of a rule a GPU (set-resources)."""
    given = workflow.resource_settings.overwrite_resources.get(rule, {})
    return device.asked_for({name: resource.value for name, resource in given.items()})


def encoder_mb_of(encoder, attempt, threads):
    """Memory to load an encoder."""
    return resources.scale_by_attempt(resources.encoder_mb(encoder_entry(encoder), threads), attempt)


def encoder_mb(wildcards, attempt, threads):
    return encoder_mb_of(wildcards.encoder, attempt, threads)


def encoding_minutes_of(encoder, rule, share, input, attempt, threads):
    """Time to encode a share of a sample's cells."""
    cells = share * resources.size_mb([input.tiles]) * 1e6 / resources.BYTES_A_CELL
    spent = resources.encoding_minutes(encoder_entry(encoder), cells, threads, gives_gpu(rule))
    return resources.scale_by_attempt(spent, attempt)


def encoding_minutes(rule, share=1):
    """Time to encode a share of a sample's cells, of rules with the wildcard ``encoder``."""

    def amount(wildcards, input, attempt, threads):
        return encoding_minutes_of(wildcards.encoder, rule, share, input, attempt, threads)

    return amount


def training_minutes(system, input, attempt, threads):
    """Time to fit a system: what its kind says, or no more than two heads with its settings would take."""
    own = base.spec_of(system["kind"]).fit_seconds
    seconds = own(system["settings"], threads, gives_gpu("fit")) if own else None
    if seconds is not None:
        return resources.scale_by_attempt(resources.fitting_minutes(seconds), attempt)
    entry = encoder_entry(system["encoder"]) if system["encoder"] else {}
    dim = entry.get("features", resources.LONGEST_EMBEDDING)
    train = config["train"] | system["settings"]
    spent = resources.training_minutes(input.ingest, dim, train, threads, gives_gpu("fit"))
    return resources.scale_by_attempt(spent, attempt)
