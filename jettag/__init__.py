"""jettag: pre-train, fine-tune and judge jet taggers. See `jettag.run` for the functions behind each command."""

__all__ = ["CITATION", "__version__"]

__version__ = "0.1.0"

CITATION = """@software{jettag,
  title   = {jettag: pre-train, fine-tune and judge jet taggers},
  author  = {{The jettag developers}},
  version = {%s},
  year    = {2026}
}
% The Particle Transformer:
@inproceedings{Qu:2022mxj,
  author = {Qu, Huilin and Li, Congqiao and Qian, Sitian},
  title  = {{Particle Transformer for Jet Tagging}},
  booktitle = {{Proceedings of the 39th International Conference on Machine Learning}},
  eprint = {2202.03772}, archivePrefix = {arXiv}, year = {2022}
}
% Masked particle modelling:
@article{Golling:2024abg,
  author = {Golling, Tobias and Heinrich, Lukas and Kagan, Michael and Klein, Samuel and Leigh, Matthew
            and Osadchy, Margarita and Raine, John Andrew},
  title  = {{Masked particle modeling on sets: towards self-supervised high energy physics foundation models}},
  eprint = {2401.13537}, archivePrefix = {arXiv}, year = {2024}
}
% Simulated jets (jettag generate):
@article{Bierlich:2022pfr,
  author = {Bierlich, Christian and others},
  title  = {{A comprehensive guide to the physics and usage of PYTHIA 8.3}},
  eprint = {2203.11601}, archivePrefix = {arXiv}, year = {2022}
}
@article{Cacciari:2011ma,
  author = {Cacciari, Matteo and Salam, Gavin P. and Soyez, Gregory},
  title  = {{FastJet user manual}},
  eprint = {1111.6097}, archivePrefix = {arXiv}, year = {2012}
}
@article{deFavereau:2013fsa,
  author = {{DELPHES 3}},
  title  = {{DELPHES 3: a modular framework for fast simulation of a generic collider experiment}},
  eprint = {1307.6346}, archivePrefix = {arXiv}, year = {2014}
}""".replace("%s", __version__)
