//! Models out of sight and back: names stay, times tell, and no byte is lost.

mod support;

use std::fs;
use std::time::{Duration, SystemTime};
use support::fake_hub::sha256_of;
use support::mounted::{Fuse, Mounted, Sandbox, eventually, fuse_or_skip, names};
use support::tiny::lora;

/// 250 ms are promised; the rest is for a loaded test machine.
const VISIBLE_MAX: Duration = Duration::from_secs(10);
const VIEWS: [&str; 4] = ["comfyui/loras", "forge/Lora", "a1111/Lora", "by/type/lora"];

fn time(mount: &Mounted, view: &str) -> SystemTime {
    fs::metadata(mount.path(view)).expect("a view").modified().expect("a time")
}

fn shows(mount: &Mounted, expected: &[(&str, u64)]) -> bool {
    VIEWS.iter().all(|view| {
        names(mount, view) == expected.iter().map(|(name, _)| *name).collect::<Vec<_>>()
            && expected
                .iter()
                .all(|(name, number)| fs::read(mount.path(view).join(name)).is_ok_and(|bytes| bytes == lora(*number)))
    })
}

#[test]
fn removing_either_of_two_equal_names_changes_no_other_name() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = Sandbox::new();
    for (folder, number) in [("one", 1), ("two", 2), ("three", 3)] {
        sandbox.write(format!("{folder}/same.safetensors"), lora(number));
    }
    let marked = |number: u64| format!("same~{}.safetensors", &sha256_of(&lora(number))[..10]);
    let (second, third) = (marked(2), marked(3));
    sandbox.run(["import", "one"]).success();
    sandbox.run(["import", "two"]).success();
    let mount = sandbox.mount(&[]);
    assert!(shows(&mount, &[("same.safetensors", 1), (&second, 2)]));

    for (number, left) in [(1, (second.as_str(), 2)), (2, ("same.safetensors", 1))] {
        let reference = format!("sha256:{}", sha256_of(&lora(number)));
        let before: Vec<SystemTime> = VIEWS.iter().map(|view| time(&mount, view)).collect();
        let gone = sandbox.run(["rm", "--json", &reference]).success().json();
        assert_eq!((gone[0]["removed"].as_bool(), gone[0]["changed"].as_bool()), (Some(true), Some(true)), "{gone}");
        eventually("only the other one is shown", VISIBLE_MAX, || shows(&mount, &[left]));
        for (view, before) in VIEWS.iter().zip(before) {
            eventually("the folder has a new time", VISIBLE_MAX, || time(&mount, view) > before);
        }
        let stored = mount.path("store").join(sha256_of(&lora(number))).join("same.safetensors");
        assert_eq!(fs::read(stored).expect("its content stays"), lora(number));
        sandbox.run(["restore", &reference]).success();
        eventually("both are back as they were", VISIBLE_MAX, || {
            shows(&mount, &[("same.safetensors", 1), (&second, 2)])
        });
    }

    // A name in the trash is kept for its owner: the third does not take it.
    sandbox.run(["rm", &format!("sha256:{}", sha256_of(&lora(1)))]).success();
    sandbox.run(["import", "three"]).success();
    let mut expected = vec![(second.as_str(), 2), (third.as_str(), 3)];
    expected.sort_unstable();
    eventually("the third has a name of its own", VISIBLE_MAX, || shows(&mount, &expected));
    mount.unmount();
    let mount = sandbox.mount(&[]);
    assert!(shows(&mount, &expected), "a remount changes nothing");
    sandbox.run(["import", "one"]).success();
    mount.unmount();
    sandbox.run(["verify"]).success();
}

#[test]
fn a_reference_means_what_is_shown_and_restore_what_is_not() {
    let sandbox = Sandbox::new();
    sandbox.write("in/a.safetensors", lora(1));
    sandbox.run(["import", "in"]).success();
    assert_eq!(sandbox.run(["rm", "no-such-model"]).code(4).stdout, "");
    sandbox.run(["rm", "a.safetensors"]).success();
    assert_eq!(sandbox.run(["ls", "--json"]).success().json().as_array().map(Vec::len), Some(0));
    let again = sandbox.run(["rm", "--json", "a.safetensors"]).success().json();
    assert_eq!(again[0]["changed"].as_bool(), Some(false), "{again}");
    sandbox.run(["restore", "a.safetensors"]).success();
    assert_eq!(sandbox.run(["ls", "--json"]).success().json().as_array().map(Vec::len), Some(1));
}
