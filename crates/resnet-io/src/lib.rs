//! Pixels and files: decoders, resize, augmentation, data sources, loader; weights and model files.
#![deny(unsafe_code)]
