//! Floor 4: plan -> apply -> receipt -> undo.
