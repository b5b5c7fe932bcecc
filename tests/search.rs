//! Searching: from the command line.

mod support;

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

#[test]
fn hubs_are_refused_until_they_can_be_searched() {
    let sandbox = stocked();
    for arguments in [&["search", "anime source:huggingface"][..], &["search", "anime", "--source", "all"]] {
        let refused = sandbox.run(arguments.iter().copied()).code(1);
        assert!(refused.stderr.contains("searching hubs") && refused.stderr.contains("hint: "), "{refused:?}");
    }
}
