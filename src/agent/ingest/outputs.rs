//! Sets of outputs.

/// Some outputs, by their numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Outputs(u128);

impl Outputs {
    /// That one. Those beyond 127 count as one.
    pub fn one(number: usize) -> Self {
        Outputs(1 << number.min(127))
    }

    pub fn and(self, other: Outputs) -> Self {
        Outputs(self.0 | other.0)
    }

    pub fn has(self, other: Outputs) -> bool {
        self.0 & other.0 == other.0
    }

    /// None at all.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_outputs() {
        let both = Outputs::one(0).and(Outputs::one(3));
        assert!(both.has(Outputs::one(3)) && !both.has(Outputs::one(1)));
        assert!(both.has(Outputs::default()) && Outputs::default().is_empty());
        assert_eq!(Outputs::one(127), Outputs::one(4000));
    }
}
