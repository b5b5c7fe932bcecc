//! Searching from the command line: here, and at a hub of this machine.

mod support;

use support::fake_hub::{Access, FakeHub, Fault};
use support::mounted::Sandbox;
use support::tiny::lora;

/// Three models: two whose names answer to `anime`, and the word in capitals with its neighbour.
fn stocked() -> Sandbox {
    let sandbox = Sandbox::new();
    for (seed, name) in [(1, "anime style"), (2, "animagineXLV3"), (3, "Landscape")] {
        sandbox.write(format!("in/{name}.safetensors"), lora(seed));
    }
    sandbox.run(["import", "in"]).success();
    sandbox
}

fn found(sandbox: &Sandbox, arguments: &[&str]) -> Vec<String> {
    let answer =
        sandbox.run(["--quiet"].into_iter().chain(arguments.iter().copied()).chain(["--json"])).success().json();
    let models = answer.as_array().expect("an array");
    models.iter().map(|model| model["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn one_grammar_finds_models_with_ls_and_with_search() {
    let sandbox = stocked();
    for (arguments, expected) in [
        (&["search", "xl", "v3"][..], &["animagineXLV3"][..]),
        (&["search", "xl v3"], &["animagineXLV3"]),
        (&["ls", "anim sort:name"], &["animagineXLV3", "anime style"]),
        (&["search", "anim -style"], &["animagineXLV3"]),
        (&["search", "type:lora", "--sort", "name", "--limit", "2"], &["animagineXLV3", "anime style"]),
        (&["search", "a", "--type", "vae"], &[]),
        (&["search", "land OR style", "--base", "sd1", "--sort", "name"], &["anime style", "Landscape"]),
        (&["search", "'; DROP TABLE models;", "--source", "local"], &[]),
        (&["ls", "size<1GB app:comfyui"], &["animagineXLV3", "anime style", "Landscape"]),
    ] {
        let expected: Vec<String> = expected.iter().map(|stem| format!("{stem}.safetensors")).collect();
        assert_eq!(found(&sandbox, arguments), expected, "{arguments:?}");
    }
    let table = sandbox.run(["search", "style"]).success();
    assert!(table.stdout.contains("anime style.safetensors"), "{table:?}");
    let nothing = sandbox.run(["search", "nowhere"]).success();
    assert!(nothing.stdout.is_empty() && nothing.stderr.contains("no model answers"), "{nothing:?}");
}

#[test]
fn a_query_that_cannot_be_read_shows_its_place() {
    let sandbox = stocked();
    for verb in ["search", "ls"] {
        let refused = sandbox.run([verb, "anime type:lorax"]).code(2);
        assert!(refused.stderr.contains("\n  anime type:lorax\n        ^^^^^^^^^^\n"), "{refused:?}");
        assert!(refused.stderr.contains("`lorax` is no type") && refused.stderr.contains("hint: "), "{refused:?}");
    }
    sandbox.run(["search", "anime", "--sort", "shoesize"]).code(2);
}

/// Five repositories of one creator, one of another, one that is nobody's business.
fn hub() -> FakeHub {
    let hub = FakeHub::start();
    for number in 1..=5 {
        hub.repo(&format!("ann/anime-xl-{number}")).tag("lora").tag("license:mit").file("x.safetensors", "x");
    }
    hub.repo("bob/anime-sdxl").tag("Style").access(Access::Gated);
    hub.repo("bob/secret-anime").access(Access::Private);
    hub
}

fn ids(answer: &serde_json::Value) -> Vec<String> {
    let rows = answer.as_array().expect("an array").iter();
    rows.map(|row| row["id"].as_str().map_or_else(|| row["id"].to_string(), str::to_owned)).collect()
}

#[test]
fn a_hub_is_searched_with_the_same_words() {
    let hub = hub();
    let mut sandbox = stocked();
    sandbox.set("HF_ENDPOINT", &hub.endpoint());
    let search =
        |words: &str| ids(&sandbox.run(["search", words, "--source", "huggingface", "--json"]).success().json());
    assert_eq!(
        search("anime -xl-3 creator:ann"),
        ["1", "2", "4", "5"].map(|number| format!("hf:ann/anime-xl-{number}"))
    );
    assert_eq!(search("anime base:sdxl"), ["hf:bob/anime-sdxl"]);
    assert_eq!(search("anime style"), ["hf:bob/anime-sdxl"], "a word among the tags");
    assert_eq!(search("anime type:lora license:mit downloads>1000 limit:2").len(), 2);
    assert!(search("nowhere").is_empty());
    let all = sandbox.run(["search", "anime source:local|huggingface", "--json"]).success().json();
    assert_eq!(all.as_array().expect("an array").len(), 7, "{all}");
    assert_eq!(all[0]["name"], "anime style.safetensors");

    sandbox.run(["add", "hf:ann/anime-xl-1"]).success();
    let rows = sandbox.run(["search", "anime-xl-1", "--source", "huggingface", "--json"]).success().json();
    let row = &rows[0];
    assert_eq!((row["here"].as_bool(), row["gated"].as_bool()), (Some(true), Some(false)), "{row}");
    assert_eq!((row["creator"].as_str(), row["license"].as_str()), (Some("ann"), Some("mit")), "{row}");
    assert_eq!(row["updated"].as_str(), Some("2024-05-01T12:00:00Z"), "{row}");
    let table = sandbox.run(["search", "anime", "--source", "huggingface"]).success();
    assert!(table.stdout.contains("hf:bob/anime-sdxl") && table.stdout.contains("gated"), "{table:?}");
}

#[test]
fn every_row_of_a_hub_comes_once_page_by_page() {
    let hub = hub();
    let mut sandbox = stocked();
    sandbox.set("HF_ENDPOINT", &hub.endpoint());
    let (mut seen, mut cursor) = (Vec::new(), None::<String>);
    for _ in 0..9 {
        let mut arguments = vec!["search", "anime", "--source", "huggingface", "--limit", "2", "--json"];
        arguments.extend(cursor.iter().flat_map(|cursor| ["--cursor", cursor.as_str()]));
        let answer = sandbox.run(arguments).success();
        cursor = answer.stderr.split("--cursor ").nth(1).map(|rest| rest.trim().to_owned());
        let rows = ids(&answer.json());
        assert!(rows.len() <= 2, "{rows:?}");
        seen.extend(rows);
        if cursor.is_none() {
            break;
        }
    }
    let mut expected: Vec<String> = (1..=5).map(|number| format!("hf:ann/anime-xl-{number}")).collect();
    expected.push("hf:bob/anime-sdxl".to_owned());
    assert_eq!(seen, expected);
    sandbox.run(["search", "anime", "--cursor", "nonsense"]).code(2);
}

#[test]
fn a_hub_that_fails_takes_nothing_away_from_the_others() {
    let hub = hub();
    let mut sandbox = stocked();
    sandbox.set("HF_ENDPOINT", &hub.endpoint());
    hub.fault(Fault::Status(500));
    let answer = sandbox.run(["search", "anime", "--source", "local,huggingface", "--json"]).success();
    assert!(answer.stderr.contains("warning: huggingface: ") && answer.stderr.contains("500"), "{answer:?}");
    assert_eq!(answer.json().as_array().expect("an array").len(), 1);
    let alone = sandbox.run(["search", "anime", "--source", "huggingface"]).code(5);
    assert!(alone.stderr.contains("500"), "{alone:?}");
    let offline = sandbox.run(["search", "anime", "--source", "huggingface", "--offline"]).code(5);
    assert!(offline.stderr.contains("switched off"), "{offline:?}");
    sandbox.run(["search", "anime", "--source", "elsewhere"]).code(2);
}
