//! The replay window (RFC 6347 §4.1.2.6).

/// Remembers which of the newest 64 sequence numbers of an epoch have been seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReplayWindow {
    /// The number after the newest one seen.
    next: u64,
    /// Bit n: number `next - 1 - n` has been seen.
    seen: u64,
}

impl ReplayWindow {
    /// True when `sequence` is neither seen nor too old.
    pub(crate) fn is_fresh(&self, sequence: u64) -> bool {
        match self.next.checked_sub(sequence) {
            None | Some(0) => true,
            Some(age @ 1..=64) => self.seen >> (age - 1) & 1 == 0,
            Some(_) => false,
        }
    }

    /// Marks the fresh number of an authenticated record as seen.
    pub(crate) fn mark(&mut self, sequence: u64) {
        match self.next.checked_sub(sequence) {
            None | Some(0) => {
                let advance = sequence - self.next + 1;
                self.seen = u32::try_from(advance)
                    .ok()
                    .and_then(|n| self.seen.checked_shl(n))
                    .unwrap_or(0)
                    | 1;
                self.next = sequence + 1;
            }
            Some(age @ 1..=64) => self.seen |= 1 << (age - 1),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The window accepts exactly what a set of all numbers seen would, within 64 of the newest.
        #[test]
        fn agrees_with_model(numbers in prop::collection::vec(
            prop_oneof![0u64..200, 100u64..110, Just((1 << 48) - 1), (1u64 << 48) - 80..(1 << 48)], 1..300))
        {
            let mut window = ReplayWindow::default();
            let mut model = BTreeSet::new();
            for number in numbers {
                let newest = model.last().copied();
                let too_old = newest.is_some_and(|newest: u64| number + 64 <= newest);
                let expected = !too_old && !model.contains(&number);
                prop_assert_eq!(window.is_fresh(number), expected);
                if expected {
                    window.mark(number);
                    model.insert(number);
                }
            }
        }
    }
}
