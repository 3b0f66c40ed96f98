//! The keys of a configuration and what each holds.

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text.
    Text,
    /// `true` or `false`.
    Switch,
    /// A whole number from 0 on.
    Number,
    /// A list of texts; in a variable separated by commas.
    TextList,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Anything: understood elsewhere.
    Any,
}

/// Sections that a variable without the double underscore may name, and files may contain.
pub(super) const SECTIONS: &[&str] =
    &["user", "storage", "remote", "filesystem", "fuse", "monitor", "sentry", "environment"];

/// Members of a `[remote.NAME]` section.
pub(super) const REMOTE_MEMBERS: &[&str] = &[
    "address",
    "scheme",
    "path",
    "create",
    "lazy",
    "when",
    "tag_namespace",
    "timeout_ms",
    "max_decode_message_size_bytes",
    "max_encode_message_size_bytes",
    "primary",
    "secondary",
    "include_secondary_tags",
];

/// Every key but those of remotes.
pub(super) const KEYS: &[(&str, Kind)] = &[
    ("user.name", Kind::Text),
    ("user.domain", Kind::Text),
    ("storage.root", Kind::Text),
    ("storage.allow_payload_sharing_between_users", Kind::Switch),
    ("storage.tag_namespace", Kind::Text),
    ("storage.digest_strategy", Kind::Word(&["WithKindAndSalt", "Legacy"])),
    ("storage.encoding_format", Kind::Word(&["FlatBuffers", "Legacy"])),
    ("filesystem.backend", Kind::Text),
    ("filesystem.use_mount_syscalls", Kind::Switch),
    ("filesystem.secondary_repositories", Kind::TextList),
    ("filesystem.annotation_size_limit", Kind::Number),
    ("filesystem.overlayfs_options.break_hardlinks", Kind::Switch),
    ("filesystem.overlayfs_options.metadata_copy_up", Kind::Switch),
    ("filesystem.overlayfs_options.redirect_dir", Kind::Word(&["On", "Follow", "NoFollow", "Off"])),
    ("fuse.worker_threads", Kind::Number),
    ("fuse.max_blocking_threads", Kind::Number),
    ("fuse.enable_heartbeat", Kind::Switch),
    ("fuse.heartbeat_interval_seconds", Kind::Number),
    ("fuse.heartbeat_grace_period_seconds", Kind::Number),
    ("fuse.include_secondary_tags", Kind::Switch),
    ("monitor.worker_threads", Kind::Number),
    ("monitor.max_blocking_threads", Kind::Number),
    ("sentry.dsn", Kind::Text),
    ("sentry.environment", Kind::Text),
    ("sentry.username_override_var", Kind::Text),
    ("sentry.email_domain", Kind::Text),
    ("environment.variable_names_to_preserve", Kind::TextList),
];

/// `SPFS_*` variables that begin like a section and are no configuration keys.
pub(super) const OTHER_VARIABLES: &[&str] = &[
    "SPFS_FILESYSTEM_TMPFS_SIZE",
    "SPFS_FUSE_LOG_FOREGROUND",
    "SPFS_MONITOR_FOREGROUND_LOGGING",
    "SPFS_MONITOR_NO_CHDIR",
    "SPFS_MONITOR_NO_CLOSE",
];

/// What the key at `path` holds; `None` when nobody knows it.
pub(super) fn kind_of(path: &[String]) -> Option<Kind> {
    if let [section, _, member] = path
        && section == "remote"
    {
        return REMOTE_MEMBERS.contains(&member.as_str()).then_some(Kind::Any);
    }
    let joined = path.join(".");
    KEYS.iter().find(|(key, _)| *key == joined).map(|(_, kind)| *kind)
}

/// Whether keys lie below `path`.
pub(super) fn is_section(path: &[String]) -> bool {
    match path {
        [section] => SECTIONS.contains(&section.as_str()),
        [section, _] if section == "remote" => true,
        _ => {
            let prefix = format!("{}.", path.join("."));
            KEYS.iter().any(|(key, _)| key.starts_with(&prefix))
        }
    }
}

/// The key or section that may have been meant by `path`, among those beside it.
pub(super) fn nearest(path: &[String]) -> Option<String> {
    let (last, section) = path.split_last()?;
    let before: String = section.iter().map(|part| format!("{part}.")).collect();
    let below = |key: &'static str| key.strip_prefix(&before)?.split('.').next();
    let beside: Vec<&str> = match section {
        [] => SECTIONS.to_vec(),
        [remote, _] if remote == "remote" => REMOTE_MEMBERS.to_vec(),
        _ => KEYS.iter().filter_map(|(key, _)| below(key)).collect(),
    };
    let meant = spfs_repo::nearest(last, beside)?;
    Some(before + meant)
}

/// The key that the variable `name` (with its `SPFS_`) sets.
///
/// Both separators of upstream: `__` between all parts, or `_` alone; with the latter a key that
/// itself holds an underscore is found too, which upstream cannot.
pub(super) fn of_variable(name: &str) -> VariableKey {
    let Some(rest) = name.strip_prefix("SPFS_") else { return VariableKey::Other };
    if OTHER_VARIABLES.contains(&name) {
        return VariableKey::Other;
    }
    let lower = rest.to_lowercase();
    if lower.contains("__") {
        let path: Vec<String> = lower.split("__").map(str::to_owned).collect();
        return known_or_not(path);
    }
    if let Some(remote) = lower.strip_prefix("remote_") {
        return remote_key(remote);
    }
    if let Some((key, _)) = KEYS.iter().find(|(key, _)| key.replace('.', "_") == lower) {
        return VariableKey::Known(key.split('.').map(str::to_owned).collect());
    }
    match lower.split_once('_') {
        Some((section, _)) if SECTIONS.contains(&section) => VariableKey::Unknown,
        _ => VariableKey::Other,
    }
}

/// What a variable's name says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum VariableKey {
    /// It sets this key.
    Known(Vec<String>),
    /// It looks like a key and is none.
    Unknown,
    /// It is no business of the configuration.
    Other,
}

fn known_or_not(path: Vec<String>) -> VariableKey {
    if kind_of(&path).is_some() { VariableKey::Known(path) } else { VariableKey::Unknown }
}

/// Remote names may hold underscores; the member after them is one of a few words.
fn remote_key(rest: &str) -> VariableKey {
    let found = REMOTE_MEMBERS.iter().find_map(|member| {
        let name = rest.strip_suffix(member)?.strip_suffix('_')?;
        (!name.is_empty()).then_some((name, *member))
    });
    match found {
        Some((name, member)) => {
            VariableKey::Known(["remote", name, member].map(str::to_owned).to_vec())
        }
        None => VariableKey::Unknown,
    }
}
