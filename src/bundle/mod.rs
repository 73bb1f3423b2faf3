//! Floor 2: the one-file bundle, format "OMSB 1" (bundle-format.md E.3).
