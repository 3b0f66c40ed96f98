//! Which tests a command line means.

#[derive(Debug, Default)]
pub(super) struct Selection {
    pub(super) list: bool,
    nothing: bool,
    exact: bool,
    names: Vec<String>,
    skip: Vec<String>,
}

impl Selection {
    pub(super) fn parse(arguments: &[String]) -> Self {
        let mut selection = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => selection.list = true,
                // There are no ignored tests.
                "--ignored" => selection.nothing = true,
                "--exact" => selection.exact = true,
                "--skip" => selection.skip.extend(arguments.next().cloned()),
                "--format" | "--test-threads" | "--color" | "--logfile" => {
                    arguments.next();
                }
                flag if flag.starts_with('-') => {}
                name => selection.names.push(name.to_owned()),
            }
        }
        selection
    }

    pub(super) fn has(&self, name: &str) -> bool {
        let fits = |wanted: &String| {
            if self.exact { name == wanted } else { name.contains(wanted.as_str()) }
        };
        !self.nothing
            && (self.names.is_empty() || self.names.iter().any(fits))
            && !self.skip.iter().any(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::Selection;

    fn has(arguments: &str, name: &str) -> bool {
        let words: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        Selection::parse(&words).has(name)
    }

    #[test]
    fn tests_are_chosen_as_the_usual_harness_does() {
        assert!(has("", "a::b"));
        assert!(has("b", "a::b") && !has("c", "a::b"));
        assert!(has("c b", "a::b") && !has("--exact b", "a::b") && has("--exact a::b", "a::b"));
        assert!(!has("--skip b", "a::b") && has("--skip c --nocapture", "a::b"));
        assert!(!has("--ignored", "a::b") && has("--include-ignored", "a::b"));
        assert!(has("--format terse --test-threads 1", "a::b"));
    }
}
