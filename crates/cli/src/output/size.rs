//! Sizes as people read them.

use std::fmt;

/// Displays a number of bytes with one decimal and a binary unit: `10.0 B`, `1.5 MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Human(pub(crate) u64);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{}.0 B", self.0);
        }
        // Tenths of the unit, rounded; in integers, so that nothing ever reads "1024.0 KiB".
        let mut unit = 0;
        let mut tenths = tenths_of(self.0, unit);
        while tenths >= 10_240 && unit + 1 < UNITS.len() {
            unit += 1;
            tenths = tenths_of(self.0, unit);
        }
        write!(f, "{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

/// `bytes` in tenths of the unit (0 = KiB), rounded to the nearest.
fn tenths_of(bytes: u64, unit: usize) -> u128 {
    let divisor = 1u128 << (10 * (unit + 1));
    (u128::from(bytes) * 10 + divisor / 2) / divisor
}

/// A size either in plain bytes or for people.
pub(crate) fn show(bytes: u64, human: bool) -> String {
    if human { Human(bytes).to_string() } else { bytes.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_change_where_the_number_would_reach_1024() {
        let shown = |bytes| Human(bytes).to_string();
        assert_eq!(shown(0), "0.0 B");
        assert_eq!(shown(10), "10.0 B");
        assert_eq!(shown(1023), "1023.0 B");
        assert_eq!(shown(1024), "1.0 KiB");
        assert_eq!(shown(1536 * 1024), "1.5 MiB");
        assert_eq!(shown(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(shown(u64::MAX), "16.0 EiB");
    }
}
