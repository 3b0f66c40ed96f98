//! The figures of all rounds in one table.

use std::collections::BTreeMap;
use std::fmt;

use clap::ValueEnum;

use crate::Result;

/// A kind of mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Kind {
    /// The kernel's overlayfs
    Overlay,
    /// overlayfs in user space
    FuseOverlayfs,
    /// FuseWithScratch
    Ours,
    /// FuseOnly, which can only be read
    FuseOnly,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Ours, Self::FuseOnly, Self::Overlay, Self::FuseOverlayfs];

    fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlayfs",
            Self::FuseOverlayfs => "fuse-overlayfs",
            Self::Ours => "ours",
            Self::FuseOnly => "ours, FuseOnly",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Seconds by workload, in the order of the benchmark, and by kind: the least of all rounds.
#[derive(Default)]
pub(super) struct Table {
    workloads: Vec<String>,
    least: BTreeMap<(usize, Kind), f64>,
}

impl Table {
    /// Adds the figures of one run: a JSON object of seconds by workload.
    pub(super) fn add(&mut self, kind: Kind, figures: &str) -> Result {
        // The map of serde_json sorts by name; the order of the benchmark is the order of the text.
        let parsed: BTreeMap<String, f64> = serde_json::from_str(figures)?;
        let mut names: Vec<&String> = parsed.keys().collect();
        names.sort_by_key(|name| figures.find(&format!("\"{name}\"")));
        for name in names {
            let known = self.workloads.iter().position(|workload| workload == name);
            let row = known.unwrap_or_else(|| {
                self.workloads.push(name.clone());
                self.workloads.len() - 1
            });
            let least = self.least.entry((row, kind)).or_insert(f64::INFINITY);
            *least = least.min(parsed[name]);
        }
        Ok(())
    }

    fn seconds(&self, row: usize, kind: Kind) -> Option<f64> {
        self.least.get(&(row, kind)).copied()
    }

    fn ratio(&self, row: usize, to: Kind) -> String {
        match (self.seconds(row, Kind::Ours), self.seconds(row, to)) {
            (Some(ours), Some(other)) if other > 0.0 => format!("{:.2}", ours / other),
            _ => "–".to_owned(),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Kind::ALL.map(Kind::name);
        writeln!(
            f,
            "| workload (s) | {} | ours / overlayfs | ours / fuse-overlayfs |",
            names.join(" | ")
        )?;
        writeln!(f, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |")?;
        for (row, workload) in self.workloads.iter().enumerate() {
            write!(f, "| {workload} |")?;
            for kind in Kind::ALL {
                match self.seconds(row, kind) {
                    Some(seconds) => write!(f, " {seconds:.3} |")?,
                    None => f.write_str(" – |")?,
                }
            }
            let (overlay, fuse) =
                (self.ratio(row, Kind::Overlay), self.ratio(row, Kind::FuseOverlayfs));
            writeln!(f, " {overlay} | {fuse} |")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_all_rounds_counts_in_the_order_of_the_benchmark() {
        let mut table = Table::default();
        table.add(Kind::Ours, r#"{"walk": 2.0, "create": 1.0}"#).unwrap();
        table.add(Kind::Ours, r#"{"walk": 1.0, "create": 3.0}"#).unwrap();
        table.add(Kind::Overlay, r#"{"walk": 4.0, "create": 0.5}"#).unwrap();
        let text = table.to_string();
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| walk | 1.000 | – | 4.000 | – | 0.25 | – |",
                "| create | 1.000 | – | 0.500 | – | 2.00 | – |",
            ]
        );
        assert!(table.add(Kind::Ours, "[]").is_err());
    }
}
