//! Floor 4: the self-hosted workspace service.
