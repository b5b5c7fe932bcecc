//! The directories below `search/` of a mount: queries that are made, read, refined, renamed and removed.

mod support;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};
use support::mounted::{Fuse, Mounted, Sandbox, errno, eventually, fuse_or_skip, modelfs_xattr, names};
use support::tiny::lora;

/// DESIGN: a change made by another process is visible within 250 ms; the rest is for a loaded test machine.
const VISIBLE_MAX: Duration = Duration::from_secs(20);

/// Far over what anything here takes.
const DONE_MAX: Duration = Duration::from_secs(30);
/// Room for a few entries, so that a directory is read in many parts.
const PART_BYTES: usize = 512;

/// The next names of an open directory, as far as they fit into a small buffer; none at its end.
fn next_part(directory: &File) -> Vec<String> {
    let mut buffer = [0_u8; PART_BYTES];
    // SAFETY: the buffer is as long as it is said to be and lives through the call.
    let read = unsafe { libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
    let read = usize::try_from(read).expect("getdents64");
    let (mut names, mut at) = (Vec::new(), 0);
    // An entry: number, position, length (bytes 16 and 17), kind, name up to a zero.
    while at < read {
        let length = usize::from(u16::from_ne_bytes([buffer[at + 16], buffer[at + 17]]));
        let name = buffer[at + 19..at + length].split(|byte| *byte == 0).next().expect("a name");
        names.push(String::from_utf8(name.to_vec()).expect("UTF-8"));
        at += length;
    }
    names.into_iter().filter(|name| name != "." && name != "..").collect()
}

fn stocked() -> Sandbox {
    let sandbox = Sandbox::new();
    for (seed, name) in [(1, "anime style"), (2, "animagineXLV3"), (3, "Landscape")] {
        sandbox.write(format!("in/{name}.safetensors"), lora(seed));
    }
    sandbox.run(["import", "in"]).success();
    sandbox
}

fn xattr(mount: &Mounted, folder: &str, name: &str) -> Option<String> {
    modelfs_xattr(&mount.path(folder), name)
}

fn shell(mount: &Mounted, script: &str) -> std::process::Output {
    Command::new("sh").args(["-c", script]).current_dir(mount.directory()).output().expect("a shell")
}

#[test]
fn a_query_is_a_directory_of_the_same_files() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = stocked();
    let mount = sandbox.mount(&[]);
    for unknown in ["search/anything", "search/type:lora", "search/.hidden"] {
        assert!(fs::metadata(mount.path(unknown)).is_err(), "{unknown}");
    }
    assert_eq!(names(&mount, "search"), Vec::<String>::new(), "a look makes nothing");

    fs::create_dir(mount.path("search/anim size<1GB")).expect("made");
    assert_eq!(names(&mount, "search"), ["anim size<1GB"]);
    assert_eq!(names(&mount, "search/anim size<1GB"), ["animagineXLV3.safetensors", "anime style.safetensors"]);
    let found = mount.path("search/anim size<1GB/animagineXLV3.safetensors");
    assert_eq!(fs::read(&found).expect("readable"), lora(2));
    let by_type = fs::metadata(mount.path("by/type/lora/animagineXLV3.safetensors")).expect("a file");
    assert_eq!(fs::metadata(&found).expect("a file").ino(), by_type.ino());
    for (name, expected) in
        [("state", Some("complete")), ("query", Some("anim size<1GB")), ("count", Some("2")), ("error", None)]
    {
        assert_eq!(xattr(&mount, "search/anim size<1GB", name).as_deref(), expected, "{name}");
    }

    fs::create_dir(mount.path("search/anim size<1GB/xl v3")).expect("refined");
    assert_eq!(names(&mount, "search/anim size<1GB/xl v3"), ["animagineXLV3.safetensors"]);
    assert_eq!(xattr(&mount, "search/anim size<1GB/xl v3", "query").as_deref(), Some("anim size<1GB xl v3"));
    let links = |folder: &str| fs::metadata(mount.path(folder)).expect("a directory").nlink();
    assert_eq!((links("search"), links("search/anim size<1GB")), (3, 3));
    mount.unmount();

    let mount = sandbox.mount(&[]);
    assert_eq!(names(&mount, "search/anim size<1GB/xl v3"), ["animagineXLV3.safetensors"], "queries are kept");
    mount.unmount();
}

#[test]
fn what_cannot_be_a_query_is_refused() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = stocked();
    let mount = sandbox.mount(&[]);
    let make = |name: &str| fs::create_dir(mount.path(name));
    for wrong in ["search/type:lorax", "search/(a", "search/a\nb", "search/colour:red"] {
        assert_eq!(errno(make(wrong)), Some(libc::EINVAL), "{wrong}");
    }
    // Refinements add up, whatever their directories are called.
    let negations = ["-q"; 80].join(" ");
    let mut above = "search".to_owned();
    for level in 0..3 {
        make(&format!("{above}/{negations}")).expect("few enough");
        fs::rename(mount.path(format!("{above}/{negations}")), mount.path(format!("{above}/{level}")))
            .expect("renamed");
        above = format!("{above}/{level}");
    }
    assert_eq!(errno(make(&format!("{above}/{negations}"))), Some(libc::EINVAL), "320 conditions");
    assert_eq!(names(&mount, &above).len(), 3, "what was not refused is answered");
    fs::remove_dir(mount.path("search/0")).expect("removed");
    make("search/\"a%2Fb\"").expect("a slash can be asked for");
    assert_eq!(xattr(&mount, "search/\"a%2Fb\"", "query").as_deref(), Some("\"a/b\""));
    assert_eq!(errno(make("search/\"a%2Fb\"")), Some(libc::EEXIST));
    for elsewhere in ["new", "by/type/new", "comfyui/new", "store/new"] {
        assert_eq!(errno(make(elsewhere)), Some(libc::EROFS), "{elsewhere}");
    }
    make("search/anim").expect("made");
    assert_eq!(errno(make("search/anim/anime style.safetensors")), Some(libc::EEXIST));
    let file = mount.path("search/anim/new file");
    assert_eq!(fs::write(file, "x").expect_err("refused").raw_os_error(), Some(libc::EROFS));
    mount.unmount();
}

#[test]
fn a_new_model_appears_in_an_open_query_and_names_never_collide() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = stocked();
    let mount = sandbox.mount(&[]);
    fs::create_dir(mount.path("search/anim")).expect("made");
    let mut open = fs::read_dir(mount.path("search/anim")).expect("opens");
    open.next().expect("an entry").expect("readable");
    let before = fs::metadata(mount.path("search/anim")).expect("a directory").mtime_nsec();
    sandbox.write("more/anime two.safetensors", lora(7));
    sandbox.write("more/x/anime style.safetensors", lora(8));
    sandbox.run(["import", "more"]).success();
    eventually("the new models are there", VISIBLE_MAX, || names(&mount, "search/anim").len() == 4);
    assert_eq!(open.count(), 1, "a directory that is being read stays as it was");
    assert_ne!(fs::metadata(mount.path("search/anim")).expect("a directory").mtime_nsec(), before);
    let found = names(&mount, "search/anim");
    assert!(found.contains(&"anime style.safetensors".to_owned()), "{found:?}");
    let marked: Vec<&String> = found.iter().filter(|name| name.starts_with("anime style~")).collect();
    assert_eq!(marked.len(), 1, "{found:?}");
    assert_eq!(fs::read(mount.path("search/anim").join(marked[0])).expect("readable"), lora(8));
    assert_eq!(fs::read(mount.path("search/anim/anime style.safetensors")).expect("readable"), lora(1));
    mount.unmount();
}

#[test]
fn who_reads_a_directory_meets_every_name_once_whatever_comes_and_goes() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    const FIRST: usize = 40;
    let sandbox = Sandbox::new();
    let name = |number: usize| format!("part {number:03} of a long collection.safetensors");
    for number in 0..FIRST {
        sandbox.write(format!("in/{}", name(number * 10)), lora(u64::try_from(number).expect("small") + 1));
    }
    sandbox.run(["import", "in"]).success();
    let mount = sandbox.mount(&[]);
    fs::create_dir(mount.path("search/collection")).expect("made");
    let folders = ["search/collection", "by/type/lora"];
    let mut readers: Vec<(File, Vec<String>)> = Vec::new();
    for folder in folders {
        let directory = File::open(mount.path(folder)).expect("opens");
        let first = next_part(&directory);
        assert!((1..FIRST / 2).contains(&first.len()), "{folder}: in the middle");
        readers.push((directory, first));
    }
    let before: Vec<String> = (0..FIRST).map(|number| name(number * 10)).collect();
    let time = |folder: &str| fs::metadata(mount.path(folder)).expect("a directory").modified().expect("a time");
    let old_times = folders.map(time);

    // Before, at and behind the place of the readers.
    let (came, gone) = ([5, 15, 195, 405], [0, 100, 390]);
    for number in came {
        sandbox.write(format!("more/{}", name(number)), lora(u64::try_from(number).expect("small") + 1000));
    }
    let start = Instant::now();
    sandbox.run(["import", "more"]).success();
    let last = mount.path("search/collection").join(name(405));
    eventually("what came", DONE_MAX, || last.exists());
    eprintln!("import and appearance took {:?}", start.elapsed());
    for number in gone {
        sandbox.run(["rm", &name(number)]).success();
    }
    let mut after: Vec<String> = before.iter().cloned().chain(came.map(name)).collect();
    after.retain(|known| gone.iter().all(|number| *known != name(*number)));
    after.sort();
    for (folder, old_time) in folders.into_iter().zip(old_times) {
        eventually(folder, DONE_MAX, || names(&mount, folder) == after);
        assert!(time(folder) > old_time, "{folder}: who polls the time sees that it changed");
    }

    for (folder, (directory, mut read)) in folders.into_iter().zip(readers) {
        loop {
            let part = next_part(&directory);
            if part.is_empty() {
                break;
            }
            read.extend(part);
        }
        assert_eq!(read, before, "{folder}: as it was when it was opened, every name once and in order");
    }
    mount.unmount();
}

#[test]
fn removing_and_renaming_never_touches_a_model() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = stocked();
    let mount = sandbox.mount(&[]);
    for query in ["search/anim", "search/anim/xl", "search/type:lora"] {
        fs::create_dir(mount.path(query)).expect("made");
    }
    let moved = shell(&mount, "mv search/anim search/favourites");
    assert!(moved.status.success(), "{moved:?}");
    assert_eq!(names(&mount, "search"), ["favourites", "type:lora"]);
    assert_eq!(names(&mount, "search/favourites/xl"), ["animagineXLV3.safetensors"]);
    assert_eq!(xattr(&mount, "search/favourites", "query").as_deref(), Some("anim"));

    fs::remove_file(mount.path("search/favourites/anime style.safetensors")).expect("taken out");
    assert_eq!(names(&mount, "search/favourites"), ["animagineXLV3.safetensors", "xl"]);
    assert_eq!(xattr(&mount, "search/favourites", "count").as_deref(), Some("1"));
    assert!(names(&mount, "search/type:lora").contains(&"anime style.safetensors".to_owned()));
    let into = fs::rename(mount.path("search/type:lora"), mount.path("search/favourites/y"));
    assert_eq!(errno(into), Some(libc::EPERM));
    let away = fs::rename(mount.path("search/type:lora/Landscape.safetensors"), mount.path("search/type:lora/z"));
    assert_eq!(errno(away), Some(libc::EPERM));

    let removed = shell(&mount, "rm -rf search/*");
    assert!(removed.status.success() && removed.stderr.is_empty(), "{removed:?}");
    assert_eq!(names(&mount, "search"), Vec::<String>::new());
    let models = ["Landscape.safetensors", "animagineXLV3.safetensors", "anime style.safetensors"];
    assert_eq!(names(&mount, "by/type/lora"), models);
    assert_eq!(names(&mount, "comfyui/loras"), models);
    let by = shell(&mount, "rm -rf by/type/lora");
    assert!(!by.status.success(), "{by:?}");
    assert_eq!(errno(fs::remove_file(mount.path("by/type/lora/Landscape.safetensors"))), Some(libc::EPERM));

    fs::create_dir(mount.path("search/anim")).expect("made anew");
    assert_eq!(names(&mount, "search/anim").len(), 2, "what was taken out is back");
    fs::remove_dir(mount.path("search/anim")).expect("removed with its answers");
    assert!(fs::metadata(mount.path("search/anim")).is_err());
    mount.unmount();

    let mount = sandbox.mount(&[]);
    assert_eq!(names(&mount, "search"), Vec::<String>::new());
    let _ = sandbox.run(["verify"]).success();
    mount.unmount();
}

#[test]
fn a_hit_is_linked_into_an_application_and_taken_out_again() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = stocked();
    let mount = sandbox.mount(&[]);
    fs::create_dir(mount.path("search/anim")).expect("made");
    let hit = mount.path("search/anim/animagineXLV3.safetensors");
    let before = fs::metadata(&hit).expect("a file");
    let linked = shell(&mount, "ln 'search/anim/animagineXLV3.safetensors' comfyui/checkpoints/favourite.safetensors");
    assert!(linked.status.success(), "{linked:?}");
    assert_eq!(names(&mount, "comfyui/checkpoints"), ["favourite.safetensors"], "at once");
    let favourite = mount.path("comfyui/checkpoints/favourite.safetensors");
    let after = fs::metadata(&favourite).expect("a file");
    assert_eq!((after.ino(), after.nlink()), (before.ino(), before.nlink() + 1));
    assert_eq!(fs::metadata(&hit).expect("a file").nlink(), before.nlink() + 1, "whichever name is asked");
    assert_eq!(fs::read(&favourite).expect("readable"), lora(2));
    assert!(names(&mount, "comfyui/loras").contains(&"animagineXLV3.safetensors".to_owned()), "where it was, too");

    // It is the person's: neither a remount nor another judgement takes it away.
    mount.unmount();
    let mount = sandbox.mount(&[]);
    let _ = sandbox.run(["classify", "--set", "vae", "animagineXLV3.safetensors"]).success();
    eventually("it is a vae", VISIBLE_MAX, || names(&mount, "comfyui/vae") == ["animagineXLV3.safetensors"]);
    assert_eq!(names(&mount, "comfyui/checkpoints"), ["favourite.safetensors"]);
    assert_eq!(
        fs::metadata(mount.path("comfyui/checkpoints/favourite.safetensors")).expect("a file").ino(),
        before.ino()
    );

    fs::remove_file(mount.path("comfyui/checkpoints/favourite.safetensors")).expect("taken out");
    assert_eq!(names(&mount, "comfyui/checkpoints"), Vec::<String>::new());
    assert_eq!(names(&mount, "comfyui/vae"), ["animagineXLV3.safetensors"], "the model stays");
    let other = fs::hard_link(
        mount.path("search/anim/anime style.safetensors"),
        mount.path("comfyui/checkpoints/favourite.safetensors"),
    );
    other.expect("the name is free again");
    assert_eq!(fs::read(mount.path("comfyui/checkpoints/favourite.safetensors")).expect("readable"), lora(1));
    mount.unmount();
}

#[test]
fn what_cannot_be_linked_says_why() {
    if fuse_or_skip() == Fuse::Skip {
        return;
    }
    let sandbox = stocked();
    let mount = sandbox.mount(&[]);
    fs::create_dir(mount.path("search/anim")).expect("made");
    let hit = mount.path("search/anim/animagineXLV3.safetensors");
    for (to, expected) in [
        // Its own folder shows it already; a name that is taken stays whose it is.
        ("comfyui/loras/again.safetensors", libc::EEXIST),
        ("comfyui/loras/Landscape.safetensors", libc::EEXIST),
        ("by/type/lora/new.safetensors", libc::EPERM),
        ("search/anim/new.safetensors", libc::EROFS),
        ("comfyui/new.safetensors", libc::EROFS),
        ("store/new.safetensors", libc::EROFS),
        ("comfyui/checkpoints/a\nb.safetensors", libc::EINVAL),
    ] {
        assert_eq!(errno(fs::hard_link(&hit, mount.path(to))), Some(expected), "{to}");
    }
    let outside = sandbox.path("outside.safetensors");
    assert_eq!(errno(fs::hard_link(&hit, &outside)), Some(libc::EXDEV));
    let own = mount.path("comfyui/loras/animagineXLV3.safetensors");
    assert_eq!(errno(fs::remove_file(own)), Some(libc::EROFS), "it is there by itself: `modelfs rm` removes it");
    assert_eq!(names(&mount, "comfyui/checkpoints"), Vec::<String>::new());
    mount.unmount();
}
