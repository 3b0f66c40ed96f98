//! Which bytes of a partly copied file are in scratch.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of byte ranges, kept disjoint and merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Extents {
    /// Start → end of each range.
    ranges: BTreeMap<u64, u64>,
}

/// A stretch of a file with one origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) range: Range<u64>,
    /// The bytes are in the set.
    pub(crate) covered: bool,
}

impl Extents {
    /// Tells whether every byte of the range is in the set.
    pub(crate) fn covers(&self, range: &Range<u64>) -> bool {
        range.is_empty()
            || self
                .ranges
                .range(..=range.start)
                .next_back()
                .is_some_and(|(_, end)| *end >= range.end)
    }

    /// Adds a range.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        if let Some((before, before_end)) = self.ranges.range(..=start).next_back()
            && *before_end >= start
        {
            start = *before;
            end = end.max(*before_end);
        }
        while let Some((next, next_end)) = self.ranges.range(start..=end).next() {
            let (next, next_end) = (*next, *next_end);
            self.ranges.remove(&next);
            end = end.max(next_end);
        }
        self.ranges.insert(start, end);
    }

    /// Drops everything from `len` on.
    pub(crate) fn truncate(&mut self, len: u64) {
        self.ranges.split_off(&len);
        if let Some((_, end)) = self.ranges.iter_mut().next_back() {
            *end = (*end).min(len);
        }
    }

    /// Splits a range into stretches that are in the set and stretches that are not, in order.
    pub(crate) fn segments(&self, range: Range<u64>) -> Vec<Segment> {
        let mut segments = Vec::new();
        let mut at = range.start;
        let first = self.ranges.range(..=range.start).next_back().map_or(range.start, |(s, _)| *s);
        for (start, end) in self.ranges.range(first..range.end) {
            let (start, end) = ((*start).max(at), (*end).min(range.end));
            if end <= at {
                continue;
            }
            if start > at {
                segments.push(Segment { range: at..start, covered: false });
            }
            segments.push(Segment { range: start..end, covered: true });
            at = end;
        }
        if at < range.end {
            segments.push(Segment { range: at..range.end, covered: false });
        }
        segments
    }

    /// All ranges, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.ranges.iter().map(|(start, end)| *start..*end)
    }
}

impl FromIterator<Range<u64>> for Extents {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut extents = Self::default();
        for range in ranges {
            extents.insert(range);
        }
        extents
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn extents_are_a_set_of_bytes(
            steps in prop::collection::vec((0u64..64, 0u64..16, any::<bool>()), 0..24),
            probe in (0u64..64, 0u64..32),
        ) {
            let mut extents = Extents::default();
            let mut bytes = [false; 128];
            for (start, len, insert) in steps {
                if insert {
                    extents.insert(start..start + len);
                    bytes[start as usize..(start + len) as usize].fill(true);
                } else {
                    extents.truncate(start);
                    bytes[start as usize..].fill(false);
                }
            }
            let range = probe.0..probe.0 + probe.1;
            let expected = bytes[range.start as usize..range.end as usize].iter().all(|b| *b);
            prop_assert_eq!(extents.covers(&range), expected);
            let mut at = range.start;
            for segment in extents.segments(range.clone()) {
                prop_assert_eq!(segment.range.start, at);
                prop_assert!(segment.range.end > at);
                for byte in segment.range.clone() {
                    prop_assert_eq!(bytes[byte as usize], segment.covered);
                }
                at = segment.range.end;
            }
            prop_assert_eq!(at, range.end);
            let ranges: Vec<_> = extents.iter().collect();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
