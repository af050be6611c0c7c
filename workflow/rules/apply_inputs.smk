"""What the jobs of a package read and write."""

SLIDES = on_platform("slide")
APPLIED = f"{PACKAGE['system']}/{PACKAGE['protocol']}"
COHORT = [results(f"cohort.{suffix}") for suffix in ("csv", "json")] + [results("figures/cohort.png")]
COHORT = COHORT if RUN.cohort else []
SCORED = evaluations(samples=with_role("validation"))


def packed(name):
    """A file of the package."""
    return f"{MODEL}/{name}"


def package_encoder(wildcards):
    """The encoder that the package's system reads embeddings of."""
    return [results(f"embeddings/{ENCODERS[0]}/encoder.json")] if reads(PACKAGE["system"]) == "embeddings" else []


def places_of(sample):
    """Where what is made of a slide is written: where the stages of a training run write it."""
    prediction = results(f"predictions/{APPLIED}/{sample}.cells")
    folder = results(f"samples/{sample}")
    return {
        "registration": f"{folder}/registration.json",
        "outlines": f"{folder}/outlines.parquet",
        "segment": f"{folder}/segment.json",
        "cells": f"{folder}/cells.parquet",
        "tiles": f"{folder}/tiles" if config["apply"]["keep"] == "tiles" else None,
        "predictions": f"{prediction}.h5ad",
        "qupath": f"{prediction}.geojson",
        "explorer": f"{prediction}.explorer.csv",
        "picture": results(f"slides/{sample}.png"),
    }


PLACES = {sample: places_of(sample) for sample in SLIDES}
