//! Sources, their order, and what is said of keys nobody knows.

use super::*;

fn with(system_toml: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("spfs");
    std::fs::create_dir(&config).unwrap();
    std::fs::write(config.join("spfs.toml"), system_toml).unwrap();
    let mut variables = variables.to_vec();
    let home = dir.path().to_str().unwrap();
    variables.extend([("XDG_CONFIG_HOME", home), ("HOME", "/home/ada")]);
    load_with(Path::new("/nonexistent/spfs.toml"), &Environment::of(&variables))
}

#[test]
fn defaults_hold_with_and_without_their_section() {
    for toml in ["", "[filesystem]\n", "[filesystem.overlayfs_options]\n"] {
        let config = with(toml, &[]).unwrap().config;
        assert_eq!(config.filesystem.secondary_repositories, ["origin"], "{toml:?}");
        assert_eq!(config.filesystem.annotation_size_limit, 16384);
        assert_eq!(config.filesystem.backend, "FuseWithScratch");
        assert!(config.filesystem.overlayfs_options.break_hardlinks);
        assert_eq!(config.storage.root, PathBuf::from("/home/ada/.local/share/spfs"));
    }
}

#[test]
fn a_variable_wins_over_the_file_with_either_separator() {
    let toml = "[storage]\nroot = \"~/repo\"\ntag_namespace = \"a\"\n";
    let config = with(toml, &[]).unwrap().config;
    assert_eq!(config.storage.root, PathBuf::from("/home/ada/repo"));
    assert_eq!(config.storage.tag_namespace.as_deref(), Some("a"));

    for name in ["SPFS_STORAGE__TAG_NAMESPACE", "SPFS_STORAGE_TAG_NAMESPACE"] {
        let config = with(toml, &[(name, "b"), ("SPFS_STORAGE_ROOT", "/r")]).unwrap().config;
        assert_eq!(config.storage.tag_namespace.as_deref(), Some("b"), "{name}");
        assert_eq!(config.storage.root, PathBuf::from("/r"));
    }
}

#[test]
fn remotes_come_by_address_or_by_parts_or_by_variable() {
    let toml = "[remote.origin]\naddress = \"file:/shared\"\n\
                [remote.parts]\nscheme = \"fs\"\npath = \"/parts\"\ntag_namespace = \"show\"\n";
    let variables = [("SPFS_REMOTE_my_site_ADDRESS", "file:/site")];
    let loaded = with(toml, &variables).unwrap();
    let remote = &loaded.config.remote;
    assert_eq!(remote["origin"].form().unwrap(), RemoteForm::Address("file:/shared".into()));
    assert_eq!(
        remote["parts"].form().unwrap(),
        RemoteForm::Folder { path: "/parts", create: false }
    );
    assert_eq!(remote["parts"].tag_namespace(), Some("show"));
    assert_eq!(remote["my_site"].form().unwrap(), RemoteForm::Address("file:/site".into()));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn unknown_keys_are_warned_about_with_their_source() {
    let toml = "colour = 1\n[storage]\nrooot = \"/x\"\n[filesystem]\nbackend = \"FuseOnly\"\n";
    let variables = [
        ("SPFS_STORAGE_ROOF", "x"),
        ("SPFS_RUNTIME", "r"),
        ("SPFS_FILESYSTEM_TMPFS_SIZE", "1G"),
        ("SPFS_LOG", "debug"),
    ];
    let loaded = with(toml, &variables).unwrap();
    assert_eq!(loaded.config.filesystem.backend, "FuseOnly");
    let said = loaded.warnings.join("\n");
    assert_eq!(loaded.warnings.len(), 3, "{said}");
    for part in ["key colour in", "key storage.rooot in", "spfs/spfs.toml", "SPFS_STORAGE_ROOF"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn the_key_that_may_have_been_meant_is_named() {
    for (toml, told) in [
        ("[storage]\nrooot = 1\n", "storage.rooot in TEXT: did you mean storage.root?"),
        ("[storagr]\nroot = 1\n", "storagr in TEXT: did you mean storage?"),
        ("[remote.o]\nadress = 1\n", "remote.o.adress in TEXT: did you mean remote.o.address?"),
        (
            "[filesystem.overlay_options]\nx = 1\n",
            "filesystem.overlay_options in TEXT: did you mean filesystem.overlayfs_options?",
        ),
        ("[storage]\ncolour = 1\n", "storage.colour in TEXT"),
        ("root = 1\n", "root in TEXT"),
    ] {
        let warnings = check_text(toml).unwrap();
        let told = format!("unknown configuration key {}", told.replace("TEXT", "text"));
        assert_eq!(warnings, [told], "{toml:?}");
    }
}

#[test]
fn values_of_the_wrong_kind_name_key_and_source() {
    let message =
        |toml: &str, variables: &[(&str, &str)]| with(toml, variables).unwrap_err().to_string();
    let said = message("[storage]\nencoding_format = \"flat\"\n", &[]);
    assert!(said.contains("storage.encoding_format") && said.contains("FlatBuffers"), "{said}");
    let said = message("[storage]\nroot = 3\n", &[]);
    assert!(said.contains("storage.root") && said.contains("must be text"), "{said}");
    let said = message("", &[("SPFS_FUSE_WORKER_THREADS", "many")]);
    assert!(said.contains("SPFS_FUSE_WORKER_THREADS") && said.contains("many"), "{said}");
    let said = message("[storage\n", &[]);
    assert!(said.contains("not valid TOML"), "{said}");
}

#[test]
fn text_values_that_look_like_numbers_stay_text() {
    let config = with("", &[("SPFS_USER_NAME", "007")]).unwrap().config;
    assert_eq!(config.user.name, "007");
}

#[test]
fn other_file_formats_are_named_not_silently_ignored() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("spfs")).unwrap();
    std::fs::write(dir.path().join("spfs/spfs.yaml"), "storage:\n").unwrap();
    let home = dir.path().to_str().unwrap();
    let env = Environment::of(&[("XDG_CONFIG_HOME", home)]);
    let loaded = load_with(Path::new("/nonexistent/spfs.toml"), &env).unwrap();
    assert!(loaded.warnings.iter().any(|w| w.contains("spfs.yaml is not read")));
}
