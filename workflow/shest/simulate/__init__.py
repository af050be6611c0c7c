"""A simulator with known truth: Xenium bundles with rendered H&E, and a single-cell reference.

The tissue is planned (:mod:`tissue`), filled with cells (:mod:`nuclei`), spoilt at known places (:mod:`defects`),
painted (:mod:`render`), measured (:mod:`counts`) and written in the format of a bundle (:mod:`bundle`), with
everything that was drawn beside it (folder ``truth``).
"""
