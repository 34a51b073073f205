use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<SecretRef, SecretRefError> {
    text.parse()
}

#[test]
fn every_source_has_one_canonical_text() {
    for (text, canonical) in [
        ("palyra://global/openai_api_key", None),
        (
            "palyra://channel:slack:T01/team/key?version=3&field=token&required=false&max_bytes=4096&timeout_ms=2000",
            None,
        ),
        ("palyra://global/a?required=true", Some("palyra://global/a")),
        ("palyra://global/a?field=token&version=3", Some("palyra://global/a?version=3&field=token")),
        ("palyra://global/a?field=%2fkeys%2F0%2fid", Some("palyra://global/a?field=/keys/0/id")),
        ("env://OPENAI_API_KEY", None),
        ("file:///run/secrets/key", None),
        ("file:///a%20b/%C3%A9+c", Some("file:///a%20b/%C3%A9%2Bc")),
        ("exec:///usr/bin/op?arg=read&arg=op://Vault/item&arg=&arg=%26%3D%25&field=x", None),
        ("exec:///usr/bin/pass?field=x&arg=a=b+c", Some("exec:///usr/bin/pass?arg=a%3Db%2Bc&field=x")),
    ] {
        let reference = read(text).unwrap();
        assert_eq!(reference.to_string(), canonical.unwrap_or(text));
        assert_eq!(read(&reference.to_string()).unwrap(), reference);
    }
    let bare = SecretRef::from_words("global/a?version=2").unwrap();
    assert_eq!(bare.to_string(), "palyra://global/a?version=2");
}

#[test]
fn what_is_no_reference_is_refused_and_not_repeated() {
    for bad in [
        "",
        "CANARY",
        "global/a",
        "palyra:global/a",
        "PALYRA://global/a",
        "http://CANARY",
        "palyra://",
        "palyra://global",
        "palyra://global/",
        "palyra://global/a?",
        "palyra://global/a?version",
        "palyra://global/a?version=0",
        "palyra://global/a?version=03",
        "palyra://global/a?version=+3",
        "palyra://global/a?version=4294967296",
        "palyra://global/a?version=1&version=1",
        "palyra://global/a?CANARY=1",
        "palyra://global/a?version=1&",
        "palyra://global/a?arg=x",
        "palyra://global/%61",
        "palyra://global/a#x",
        "palyra://global/../a",
        "palyra://other/a",
        "palyra://global/a?required=yes",
        "palyra://global/a?max_bytes=0",
        "palyra://global/a?max_bytes=1048577",
        "palyra://global/a?timeout_ms=600001",
        "palyra://global/a?field=",
        "palyra://global/a?field=%2Fa~2",
        "palyra://global/a?field=a%00b",
        "palyra://global/a?field=%FF",
        "palyra://global/a?field=%4",
        "palyra://global/a?field=a b",
        "palyra://global/a?field=\u{e9}",
        "env://",
        "env://1A",
        "env://A-B",
        "env://A%42",
        "env://A?version=1",
        "file://etc/a",
        "file:///",
        "file:///a/",
        "file:///a//b",
        "file:///a/../b",
        "file:///a/./b",
        "file:///a/%2e%2e/b",
        "file:///a%0ab",
        "file:///a%00",
        "file:////a",
        "file:///a?arg=x",
        "exec://op",
        "exec:///usr/bin/op?arg=%00",
        "exec:///usr/bin/op?version=1",
        " palyra://global/a",
        "palyra://global/a ",
        "palyra://global/a?field=a?b",
        "palyra://global/a}}",
    ] {
        let error = read(bad).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{bad:?}");
    }
    assert_eq!(read(&format!("env://{}", "A".repeat(16 * 1024))), Err(SecretRefError::TooLong));
    let many = format!("exec:///x?{}", vec!["arg="; 65].join("&"));
    assert_eq!(read(&many), Err(SecretRefError::TooManyArguments));
    // Short as it is typed, too long as it is written.
    let grown = format!("exec:///x?arg={}", "+".repeat(8000));
    assert_eq!(read(&grown), Err(SecretRefError::TooLong));
}

#[test]
fn tables_say_the_same_as_texts() {
    let of = |text: &str| toml::from_str::<SecretRef>(text);
    for (table, text) in [
        (
            "source = \"vault\"\nscope = \"global\"\nname = \"a\"\nversion = 3\nfield = \"token\"\nrequired = false\nmax_bytes = 4096\ntimeout_ms = 2000",
            "palyra://global/a?version=3&field=token&required=false&max_bytes=4096&timeout_ms=2000",
        ),
        ("source = \"env\"\nname = \"A\"", "env://A"),
        ("source = \"file\"\npath = \"/a b\"", "file:///a%20b"),
        ("source = \"exec\"\nargv = [\"/usr/bin/x\", \"a\"]", "exec:///usr/bin/x?arg=a"),
    ] {
        assert_eq!(of(table).unwrap().to_string(), text);
        assert_eq!(serde_json::from_str::<SecretRef>(&serde_json::to_string(text).unwrap()).unwrap().to_string(), text);
    }
    for bad in [
        "source = \"vault\"\nname = \"a\"",
        "source = \"vault\"\nscope = \"global\"\nname = \"a\"\nversion = 0",
        "source = \"vault\"\nscope = \"global\"\nname = \"a\"\npath = \"/a\"",
        "source = \"vault\"\nscope = \"global\"\nname = \"a\"\nvalue = \"x\"",
        "source = \"env\"\nname = \"A\"\nscope = \"global\"",
        "source = \"env\"\nname = \"A\"\nversion = 1",
        "source = \"file\"\npath = \"a\"",
        "source = \"exec\"\nargv = []",
        "source = \"exec\"\nargv = [\"x\"]",
        "source = \"exec\"\nargv = [\"/x\", \"\\u0000\"]",
        "source = \"other\"",
        "name = \"A\"",
    ] {
        assert!(of(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_is_shown_hides_folders_arguments_and_fields() {
    for (text, shown) in [
        ("palyra://skill:mail/imap?field=CANARY", "vault:skill:mail/imap"),
        ("env://TOKEN", "env:TOKEN"),
        ("file:///CANARY/key", "file:key"),
        ("exec:///CANARY/op?arg=CANARY", "exec:op"),
    ] {
        let reference = read(text).unwrap();
        assert_eq!(reference.redacted(), shown);
        assert_eq!(format!("{reference:?}"), format!("SecretRef({shown})"));
        assert!(!format!("{:?} {:?}", reference.source, ReferenceTable::from(&reference)).contains("CANARY"));
    }
}

/// Whatever a scope may hold.
fn scopes() -> impl Strategy<Value = String> {
    "(global|(skill|principal):[a-z@:=;!$&()*,~+.]{1,9}x|channel:[a-z;!.]{1,3}x:[a-z:@,_]{1,9}x)"
}

fn sources() -> impl Strategy<Value = SecretSource> {
    let field = || of("[a-zA-Z0-9 é/%&=?#+]{0,20}x".prop_map(|text| text.parse::<Field>().unwrap()));
    let path = || vec("[a-z é%?#&=+]{1,9}x", 1..5).prop_map(|parts| format!("/{}", parts.join("/")).parse().unwrap());
    prop_oneof![
        (scopes(), "[a-z@=]{1,9}(/[a-z+~]{1,9})?", of(1_u32..), field()).prop_map(|(scope, name, version, field)| {
            SecretSource::Vault { path: format!("{scope}/{name}").parse().unwrap(), version, field }
        }),
        ("[A-Z_][A-Z_0-9]{0,20}", field())
            .prop_map(|(name, field)| SecretSource::Env { name: name.parse().unwrap(), field }),
        (path(), field()).prop_map(|(path, field)| SecretSource::File { path, field }),
        (path(), vec("[^\0]{0,12}", 0..5), field()).prop_map(|(program, args, field)| SecretSource::Exec {
            program,
            args,
            field
        }),
    ]
}

proptest! {
    #[test]
    fn every_reference_reads_back_from_each_of_its_forms(
        source in sources(), required: bool, max_bytes in of(1_u32..=1_048_576), timeout_ms in of(1_u32..=600_000),
    ) {
        let reference = SecretRef { source, required, max_bytes, timeout_ms };
        let text = reference.to_string();
        prop_assert_eq!(text.parse::<SecretRef>().unwrap().to_string(), text.clone());
        prop_assert_eq!(&text.parse::<SecretRef>().unwrap(), &reference);
        let table = ReferenceTable::from(&reference);
        prop_assert_eq!(&toml::from_str::<SecretRef>(&toml::to_string(&table).unwrap()).unwrap(), &reference);
        prop_assert_eq!(&serde_json::from_str::<SecretRef>(&serde_json::to_string(&table).unwrap()).unwrap(), &reference);
        prop_assert_eq!(&serde_json::from_str::<SecretRef>(&serde_json::to_string(&reference).unwrap()).unwrap(), &reference);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(palyra|env|file|exec)://.{0,60}") {
        if let Ok(reference) = text.parse::<SecretRef>() {
            prop_assert_eq!(reference.to_string().parse::<SecretRef>().unwrap(), reference);
        }
    }
}
