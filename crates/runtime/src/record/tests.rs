use super::*;

/// A record as upstream 0.44.0 saves one, member for member.
const UPSTREAM: &str = concat!(
    r#"{"name":"11459716-81c9-445a-8e3f-a62dc32fa65f","#,
    r#""author":{"user_name":"alice","host_name":"host1","#,
    r#""created":"2026-11-22T06:31:50.116108245Z"},"#,
    r#""status":{"stack":["573NY2RFL4SEUTEEIEONKGDCMX6OGFRHX7YZ2TNB7RRDSQIUGZVA====","#,
    r#""NBDZ2PLVZ6ZBYW6TDOC4LELMFJAWCIYL64AZE4LR4EG2YRSMRIMA===="],"#,
    r#""editable":true,"running":true,"owner":4711,"monitor":null,"command":[""]},"#,
    r#""config":{"runtime_dir":"/tmp/spfs-runtime","tmpfs_size":null,"#,
    r#""upper_dir":"/tmp/spfs-runtime/upper","lower_dir":"/tmp/spfs-runtime/lower","#,
    r#""work_dir":"/tmp/spfs-runtime/work","ps_startup_file":"/tmp/startup.ps1","#,
    r#""sh_startup_file":"/tmp/spfs-runtime/startup.sh","#,
    r#""csh_startup_file":"/tmp/spfs-runtime/.cshrc","csh_expect_file":"/dev/null","#,
    r#""mount_namespace":"mnt:[4026532177]","include_secondary_tags":true,"durable":false}}"#,
);

const NAME: &str = "11459716-81c9-445a-8e3f-a62dc32fa65f";

fn upstream() -> RuntimeRecord {
    RuntimeRecord::from_json(NAME, UPSTREAM.as_bytes()).unwrap()
}

#[test]
fn a_record_of_upstream_comes_back_byte_for_byte() {
    assert_eq!(String::from_utf8(upstream().to_json()).unwrap(), UPSTREAM);
}

#[test]
fn a_record_of_upstream_says_what_it_means() {
    let record = upstream();
    assert!(!record.is_ours());
    assert_eq!(record.backend().unwrap(), MountBackend::OverlayFsWithRenders);
    assert_eq!(record.status.owner, Some(4711));
    assert_eq!(record.status.monitor, None);
    let stack = record.stack();
    assert_eq!(stack.len(), 2);
    assert_eq!(stack[1], record.status.stack[0], "the document has the top layer first");
    assert_eq!(record.created().unwrap().as_second(), 1_795_329_110);
}

#[test]
fn optional_members_of_upstream_come_back_too() {
    let mut record: Value = serde_json::from_str(UPSTREAM).unwrap();
    record["config"]["mount_backend"] = "FuseOnly".into();
    record["config"]["secondary_repositories"] = serde_json::json!(["file:/studio"]);
    record["config"]["live_layers"] =
        serde_json::json!([{"api": "spfs/v0/livelayer", "contents": [{"src": "a", "dest": "b"}]}]);
    record["status"]["flattened_layers"] =
        serde_json::json!(["NBDZ2PLVZ6ZBYW6TDOC4LELMFJAWCIYL64AZE4LR4EG2YRSMRIMA===="]);
    let read = RuntimeRecord::from_json(NAME, record.to_string().as_bytes()).unwrap();
    let written: Value = serde_json::from_slice(&read.to_json()).unwrap();
    assert_eq!(written, record);
}

#[test]
fn members_of_other_programs_are_kept_at_every_level() {
    let mut record: Value = serde_json::from_str(UPSTREAM).unwrap();
    record["later"] = serde_json::json!({"a": [1, 2]});
    record["author"]["mail"] = "a@b".into();
    record["status"]["progress"] = 0.5.into();
    record["config"]["colour"] = Value::Null;
    let read = RuntimeRecord::from_json(NAME, record.to_string().as_bytes()).unwrap();
    let written: Value = serde_json::from_slice(&read.to_json()).unwrap();
    assert_eq!(written, record);
}

#[test]
fn upstream_can_read_the_backend_we_write_and_we_find_ours() {
    let mut record = upstream();
    record.set_backend(MountBackend::FuseWithScratch);
    let document = record.to_json();
    let seen: Value = serde_json::from_slice(&document).unwrap();
    assert_eq!(seen["config"]["mount_backend"], "FuseOnly");
    assert_eq!(seen["config"]["backend"], "FuseWithScratch");
    let read = RuntimeRecord::from_json(NAME, &document).unwrap();
    assert!(read.is_ours());
    assert_eq!(read.backend().unwrap(), MountBackend::FuseWithScratch);
}

#[test]
fn a_backend_of_the_future_is_an_error_only_when_it_is_needed() {
    let mut record = upstream();
    record.config.backend = Some("Telepathy".to_owned());
    let read = RuntimeRecord::from_json(NAME, &record.to_json()).unwrap();
    let error = read.backend().unwrap_err().to_string();
    assert!(error.contains(NAME) && error.contains("Telepathy"));
}

#[test]
fn a_committed_layer_goes_on_top_once() {
    let mut record = upstream();
    let stack = record.stack();
    record.push_layer(stack[0]);
    assert_eq!(record.stack(), [stack[1], stack[0]]);
}

#[test]
fn a_record_under_a_foreign_name_is_refused() {
    let error = RuntimeRecord::from_json("other", UPSTREAM.as_bytes()).unwrap_err();
    assert!(matches!(error, RecordError::OtherRuntime { .. }));
}

#[test]
fn a_document_that_is_no_record_is_an_error_that_names_the_runtime() {
    for document in ["", "{}", "[]", r#"{"name":"x"}"#, "\u{0}"] {
        let error = RuntimeRecord::from_json("broken-one", document.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("broken-one"));
    }
}
