//! The replay window (`specs/esp.md` §6.1): the highest number seen and the 64 before it.

/// Numbers before the highest one that are still accepted.
const SIZE: u64 = 64;

/// Remembers which sequence numbers of an association have been seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReplayWindow {
    /// The number after the highest one seen.
    next: u64,
    /// Bit n: number `next - 2 - n` has been seen. The highest one, `next - 1`, always has.
    seen: u64,
}

impl ReplayWindow {
    /// The number after the highest one seen.
    pub(crate) fn next_expected(&self) -> u64 {
        self.next
    }

    /// True when `sequence` is neither seen nor too old.
    pub(crate) fn is_fresh(&self, sequence: u32) -> bool {
        match self.next.checked_sub(u64::from(sequence)) {
            None | Some(0) => true,
            Some(1) => false,
            Some(age) => age <= SIZE + 1 && self.seen >> (age - 2) & 1 == 0,
        }
    }

    /// Marks the fresh number of an authenticated packet as seen.
    pub(crate) fn mark(&mut self, sequence: u32) {
        let sequence = u64::from(sequence);
        match self.next.checked_sub(sequence) {
            None | Some(0) => {
                // The previous highest number becomes a bit like the others.
                let advance = sequence - self.next + 1;
                let previous = if self.next > 0 { shifted(1, advance - 1) } else { 0 };
                self.seen = shifted(self.seen, advance) | previous;
                self.next = sequence + 1;
            }
            Some(age) if (2..=SIZE + 1).contains(&age) => self.seen |= 1 << (age - 2),
            Some(_) => {}
        }
    }
}

/// `bits << by`, 0 when everything is shifted out.
fn shifted(bits: u64, by: u64) -> u64 {
    u32::try_from(by)
        .ok()
        .and_then(|by| bits.checked_shl(by))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn vectors_of_the_reference() {
        let mut window = ReplayWindow::default();
        let mut lines = 0;
        for line in include_str!("../tests/vectors/replay.txt").lines() {
            if line.starts_with("case") {
                window = ReplayWindow::default();
            }
            let mut words = line.split(' ');
            let (Some(sequence), Some(verdict), Some(next)) = (
                words.next().and_then(|word| word.parse().ok()),
                words.next(),
                words.next().and_then(|word| word.parse().ok()),
            ) else {
                continue;
            };
            lines += 1;
            assert_eq!(window.is_fresh(sequence), verdict == "accept", "{line}");
            if verdict == "accept" {
                window.mark(sequence);
            }
            assert_eq!(window.next_expected(), next, "{line}");
        }
        assert!(lines > 150, "only {lines} lines were understood");
    }

    proptest! {
        /// The window accepts exactly what a set of all numbers seen would, as far back as 64
        /// before the highest.
        #[test]
        fn agrees_with_model(numbers in prop::collection::vec(
            prop_oneof![0u32..200, 100u32..110, Just(u32::MAX), u32::MAX - 80..=u32::MAX], 1..300))
        {
            let mut window = ReplayWindow::default();
            let mut model = BTreeSet::new();
            for number in numbers {
                let too_old = model.last().is_some_and(|highest: &u32| highest.saturating_sub(64) > number);
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
