//! Addresses: what they name, and what is wrong with those that name nothing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jiff::Zoned;
use spfs_repo::{
    Address, AddressContext, AnyRepository, Encoding, Layering, PlainAddresses, RepoError,
    Repository, TagScope,
};

use crate::support::{repository, text, time};

/// Names that stand for addresses, as a configuration has them.
struct Names(HashMap<&'static str, &'static str>);

impl AddressContext for Names {
    fn named(&self, name: &str, depth: usize) -> Result<Option<Address>, RepoError> {
        let found = self.0.get(name);
        found.map(|address| Address::parse_within(address, self, depth + 1)).transpose()
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        Path::new("/here").join(path)
    }

    fn now(&self) -> Zoned {
        time(0).to_zoned(jiff::tz::TimeZone::UTC)
    }
}

fn names() -> Names {
    Names(HashMap::from([
        ("origin", "file:/shared"),
        ("loop", "proxy:?primary=/a&secondary[0]=loop"),
    ]))
}

fn parse(text: &str) -> Address {
    Address::parse(text, &names()).unwrap()
}

fn refused(address: &str) -> String {
    text(&Address::parse(address, &names()).unwrap_err())
}

fn folder(path: &str) -> Address {
    Address::Folder { path: path.into(), create: false, tags: TagScope::default() }
}

#[test]
fn folders_have_several_addresses() {
    for address in ["file:/a/b", "file:///a/b", "fs:/a/b", "/a/b", "file:///a/b?lazy=true"] {
        assert_eq!(parse(address), folder("/a/b"), "{address}");
    }
    assert_eq!(parse("a/b"), folder("/here/a/b"));
    assert_eq!(parse("./a:b"), folder("/here/./a:b"));
    assert_eq!(parse("file:/a%20b%3F"), folder("/a b?"));
    assert_eq!(parse("origin"), folder("/shared"));
    let Address::Folder { create, tags, .. } =
        parse("file:/a?create=true&tag_namespace=show&when=~1h")
    else {
        panic!("no folder")
    };
    assert!(create);
    assert_eq!(tags.namespace.unwrap().as_str(), "show");
    assert_eq!(tags.when, Some(time(-3600)));
}

#[test]
fn proxies_name_other_repositories() {
    let secondary = vec![
        folder("/shared"),
        Address::Tar { path: "/c.tar".into(), create: false, tags: TagScope::default() },
    ];
    let layering = Layering { include_secondary_tags: false, repair: false };
    let expected = Address::Layered { primary: Box::new(folder("/a")), secondary, layering };
    let text = "proxy:?primary=/a&secondary[1]=tar:/c.tar&secondary[0]=origin\
                &include_secondary_tags=false";
    assert_eq!(parse(text), expected);
    // and the other way round, without names
    assert_eq!(parse(&expected.to_string()), expected);
    let plain = PlainAddresses { now: names().now() };
    assert_eq!(Address::parse(&expected.to_string(), &plain).unwrap(), expected);
}

#[test]
fn what_is_printed_is_read_again() {
    for text in [
        "file:/a b/c%25?tag_namespace=x&when=@2026-01-01T00:00:00Z",
        "tar:/a%26b.tar?when=@2026-01-01T00:00:00Z",
        "tar:/a.tar?create=true",
        "fallback:?primary=file:/a%2520b&secondary=proxy:?primary%3D/b%26secondary%3D/c",
    ] {
        let address = parse(text);
        assert_eq!(parse(&address.to_string()), address, "{text} is {address}");
    }
}

#[test]
fn what_is_no_address_is_refused_with_the_reason() {
    for (address, said) in [
        ("nope", "no remote named \"nope\" is configured"),
        ("http2://host:7737", "'http2:' are not supported yet"),
        ("file:", "it has no path"),
        ("tar:?when=~1d", "it has no path"),
        ("proxy:?secondary=/a", "names no primary"),
        ("proxy:?primary=nope", "no remote named \"nope\""),
        ("fallback:?primary=tar:/a", "must be a folder"),
        ("file:/a?create=maybe", "create is true or false"),
        ("file:/a?when=soon", "not the address"),
        ("file:/a?tag_namespace=a/b", "a/b"),
        ("file:/%ff", "not text when decoded"),
        ("loop", "refers to itself"),
    ] {
        let error = refused(address);
        assert!(error.contains(said), "{address}: {error}");
    }
}

#[test]
fn each_kind_is_opened() {
    let (dir, first) = repository();
    let second = Repository::create(dir.path().join("second")).unwrap();
    let digest = spfs_repo::write_platform(&second, &[], true).unwrap();
    let name = "t".parse().unwrap();
    second.tags().push(&name, digest, "user", time(0)).unwrap();
    let open = |text: &str| parse(text).open(Encoding::default());
    let [first, second] =
        [&first, &second].map(|repository| repository.root().display().to_string());

    let proxy = open(&format!("proxy:?primary={first}&secondary={second}")).unwrap();
    assert_eq!(proxy.tags().resolve(&"t".parse().unwrap()).unwrap().target, digest);
    let proxy = open(&format!("fallback:?primary={first}&secondary={second}")).unwrap();
    assert!(proxy.objects().has(&digest).unwrap());

    let early = open(&format!("file:{second}?when=@2000-01-01")).unwrap();
    assert!(early.tags().stream(&name).unwrap().is_empty());
    assert!(early.objects().has(&digest).unwrap());

    let missing = dir.path().join("missing").display().to_string();
    assert!(matches!(open(&missing), Err(RepoError::NotARepository { .. })));
    open(&format!("file:{missing}?create=true")).unwrap();
    open(&missing).unwrap();

    let missing = format!("tar:{missing}.tar");
    assert!(matches!(open(&missing), Err(RepoError::NoArchive { .. })));
    open(&format!("{missing}?create=true")).unwrap();
    let behind = parse(&format!("proxy:?primary={missing}&secondary={missing}")).for_writing();
    assert!(behind.open(Encoding::default()).is_err(), "nothing is written to the others");
    parse(&missing).for_writing().open(Encoding::default()).unwrap().save().unwrap();
    open(&missing).unwrap();
}
