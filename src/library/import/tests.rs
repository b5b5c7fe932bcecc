//! Imports of small files into a store of their own.

use super::fixture::{Place, Progress, model, truncated};
use crate::base::{BlobState, Digest, EntryName, FaultKind, ModelType, RelativePath, RepoId, Revision, Timestamp};
use crate::catalog::{CatalogError, NewBlob, NewBundle, OriginRow};
use crate::library::shelf::Shelf;
use crate::library::{ImportMode, ImportRequest, Library, LibraryError, arrival, shelf};
use crate::store::Cancel;
use crate::tree::{BundleFile, HubRepo, Source};
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

#[test]
fn files_become_models_and_a_second_run_reads_nothing() {
    let place = Place::new();
    place.write("loras/a.safetensors", &model(1));
    place.write("loras/sub/b.safetensors", &model(2));
    place.write("loras/notes.txt", b"hello");
    let summary = place.import("", ImportMode::Copy);
    assert_eq!((summary.new_count, summary.ignored_count, summary.refused.len()), (2, 1, 0));
    assert_eq!(summary.new_bytes, 2 * model(1).len() as u64);
    assert_eq!(place.names(), ["a.safetensors", "b.safetensors"]);
    let info = place.info("a.safetensors");
    assert_eq!(info.summary.state, BlobState::Resident);
    assert_eq!(info.summary.format, "safetensors");
    assert!(info.autov3.is_some() && info.blake3.is_some() && info.crc32.is_some());
    assert_eq!(info.origins[0].path, place.path("loras/a.safetensors").display().to_string());
    let progress = Progress::default();
    let again = place.run(&place.request("", ImportMode::Copy), &progress, &Cancel::new());
    assert_eq!((again.new_count, again.unchanged_count), (0, 2));
    assert_eq!(progress.bytes.load(Ordering::Relaxed), 0);
    place.assert_sound();
}

#[test]
fn the_first_keeps_its_name_for_ever() {
    let place = Place::new();
    place.write("1/x.safetensors", &model(1));
    place.import("1", ImportMode::Copy);
    place.write("2/x.safetensors", &model(2));
    place.import("2", ImportMode::Copy);
    let models = place.library.list(None).expect("a list");
    let paths = |index: usize| place.info(&models[index].id.to_string()).paths;
    let (first, second) = (paths(0), paths(1));
    let shown = |paths: &[String], name: &str| {
        paths.iter().filter(|path| path.starts_with("by/")).all(|path| path.ends_with(name))
    };
    let mark = format!("/x~{}.safetensors", models[1].sha256.expect("hashed").prefix(10));
    assert!(shown(&first, "/x.safetensors"), "{first:?}");
    assert!(shown(&second, &mark), "{second:?}");
    // Also when the first is gone and a third comes.
    let library = &place.library;
    library
        .catalog()
        .write(library.now(), |w| {
            let mut shelf = Shelf::begin(w)?;
            let before = shelf.homes_of(w, models[0].id)?;
            w.set_deleted(models[0].id, true)?;
            shelf.reshelve_model(w, models[0].id, &before)
        })
        .map_err(|error: CatalogError| error)
        .expect("deleted");
    place.write("3/x.safetensors", &model(3));
    place.import("3", ImportMode::Copy);
    assert_eq!(place.info(&models[1].id.to_string()).paths, second);
    assert!(matches!(place.library.info("x.safetensors"), Err(LibraryError::Ambiguous { .. })));
}

#[test]
fn one_content_is_stored_once() {
    let place = Place::new();
    place.write("a.safetensors", &model(1));
    place.write("b.safetensors", &model(1));
    fs::hard_link(place.path("a.safetensors"), place.path("c.safetensors")).expect("hard link");
    let summary = place.import("", ImportMode::Copy);
    assert_eq!((summary.new_count, summary.already_there_count), (1, 1));
    assert_eq!(summary.saved_bytes, model(1).len() as u64);
    assert_eq!(place.names().len(), 1);
    let stats = place.library.stats().expect("stats");
    assert_eq!((stats.model_count, stats.blob_count, stats.saved_bytes), (1, 1, model(1).len() as u64));
    assert_eq!(place.import("", ImportMode::Copy).unchanged_count, 2);
}

#[test]
fn refusals_name_the_file_and_the_rest_goes_on() {
    let place = Place::new();
    place.write("good.safetensors", &model(1));
    place.write("pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n");
    place.write("page.ckpt", b"<!DOCTYPE html><html>Sign in</html>");
    place.write("answer.gguf", b"{\"error\":\"not found\"}");
    place.write("cut.safetensors", &truncated());
    place.write("huge.safetensors", &[u64::MAX.to_le_bytes().as_slice(), b"{\"a\":1}"].concat());
    place.write("noise.bin", &[7; 5000]);
    place.write("line\nbreak.ckpt", &model(3));
    let summary = place.import("", ImportMode::Copy);
    assert_eq!(summary.new_count, 1);
    assert_eq!(summary.refused.len(), 7, "{:?}", summary.refused);
    assert!(summary.refused.iter().all(|refusal| !refusal.reason.is_empty() && !refusal.remedy.is_empty()));
    assert_eq!(place.names(), ["good.safetensors"]);
    assert!(place.path("cut.safetensors").exists());
    place.assert_sound();
}

#[test]
fn a_stopped_import_is_whole_and_goes_on() {
    let place = Place::new();
    for index in 0..200u8 {
        place.write(&format!("{index}.safetensors"), &model(index));
    }
    let cancel = Cancel::new();
    let progress = Progress { stop: Some((1, cancel.clone())), ..Progress::default() };
    let first = place.run(&place.request("", ImportMode::Copy), &progress, &cancel);
    place.assert_sound();
    assert_eq!(place.names().len(), first.new_count);
    let second = place.import("", ImportMode::Copy);
    assert_eq!(first.new_count + second.new_count, 200);
    assert_eq!(first.interrupted, second.new_count > 0);
    place.assert_sound();
}

/// What a kill between publishing and writing leaves.
fn publish_without_row(place: &Place, path: &Path, moves: bool) -> Digest {
    let store = place.library.store();
    let cancel = Cancel::new();
    let staged = match moves {
        true => store.stage_move(path, None, &|_| (), &cancel),
        false => store.stage_copy(path, None, &|_| (), &cancel),
    };
    let staged = staged.expect("staged");
    let sha256 = staged.hashes().sha256;
    let _ = store.publish(staged, &EntryName::new("x.safetensors").expect("valid")).expect("published");
    sha256
}

#[test]
fn a_file_without_a_row_is_taken_up() {
    for moves in [false, true] {
        let place = Place::new();
        let path = place.write("x.safetensors", &model(1));
        let sha256 = publish_without_row(&place, &path, moves);
        place.assert_sound();
        assert_eq!(place.names(), [""; 0]);
        let mode = if moves { ImportMode::Move } else { ImportMode::Copy };
        assert_eq!(place.import("", mode).new_count, 1, "moves: {moves}");
        let info = place.info(&format!("sha256:{}", sha256.prefix(8)));
        assert_eq!(info.summary.name, "x.safetensors");
        place.assert_sound();
    }
}

#[test]
fn a_move_leaves_a_link_when_asked() {
    let place = Place::new();
    let path = place.write("a.safetensors", &model(1));
    let request = ImportRequest { leave_symlink: true, ..place.request("", ImportMode::Move) };
    let summary = place.run(&request, &Progress::default(), &Cancel::new());
    assert_eq!((summary.new_count, summary.refused.len()), (1, 0), "{summary:?}");
    assert!(path.is_symlink());
    assert_eq!(fs::read(&path).expect("through the link"), model(1));
    let again = place.run(&request, &Progress::default(), &Cancel::new());
    assert_eq!((again.new_count, again.already_there_count), (0, 0));
    let wrong = ImportRequest { leave_symlink: true, ..place.request("", ImportMode::Copy) };
    assert!(matches!(place.library.plan_import(&wrong, &Cancel::new()), Err(LibraryError::Mode { .. })));
}

#[test]
fn a_linked_file_that_changes_is_noticed() {
    let place = Place::new();
    let path = place.write("a.safetensors", &model(1));
    let summary = place.import("", ImportMode::Link);
    assert_eq!(summary.new_count, 1);
    let info = place.info("a.safetensors");
    assert_eq!((info.linked_path.as_deref(), info.error), (Some(path.as_path()), None));
    place.assert_sound();
    fs::write(&path, [model(1), vec![0]].concat()).expect("write");
    assert!(place.info("a.safetensors").error.is_some());
    let verified = place.library.verify(&[], &Progress::default(), &Cancel::new()).expect("verified");
    assert_eq!(verified.findings.len(), 1);
    // The same bytes elsewhere mend it, and a copy makes it the store's own.
    place.write("b.safetensors", &model(1));
    place.import("b.safetensors", ImportMode::Copy);
    assert_eq!(place.info("a.safetensors").linked_path, None);
    place.assert_sound();
}

#[test]
fn a_plan_says_what_each_mode_takes() {
    let place = Place::new();
    place.write("a.safetensors", &model(1));
    let request = ImportRequest { mode: None, ..place.request("", ImportMode::Copy) };
    let plan = place.library.plan_import(&request, &Cancel::new()).expect("a plan");
    let bytes = model(1).len() as u64;
    assert_eq!((plan.file_count, plan.total_bytes), (1, bytes));
    assert_eq!((plan.costs.copy, plan.costs.r#move, plan.costs.link), (Some(bytes), Some(0), Some(0)));
    assert!(plan.fits());
    assert_eq!(place.names(), [""; 0]);
    let text = place.write("notes.txt", b"hello");
    let named = ImportRequest { paths: vec![text], mode: None, leave_symlink: false };
    assert_eq!(place.library.plan_import(&named, &Cancel::new()).expect("a plan").refused.len(), 1);
    let absent = place.library.plan_import(&place.request("absent", ImportMode::Copy), &Cancel::new()).expect("a plan");
    assert_eq!(absent.refused.len(), 1);
}

#[test]
fn a_pipeline_folder_is_a_bundle() {
    for mode in [ImportMode::Copy, ImportMode::Move, ImportMode::Link] {
        let place = Place::new();
        let write = || {
            place.write("sdxl/model_index.json", b"{\"_class_name\":\"StableDiffusionXLPipeline\"}");
            place.write("sdxl/unet/config.json", b"{}");
            place.write("sdxl/unet/diffusion_pytorch_model.safetensors", &model(1));
        };
        write();
        let summary = place.import("", mode);
        assert_eq!((summary.new_count, summary.bundle_count), (3, 1), "{mode:?} {summary:?}");
        assert_eq!(place.names(), [""; 0]);
        assert_eq!(place.path("sdxl/model_index.json").exists(), mode != ImportMode::Move);
        write();
        assert_eq!(place.import("", mode).bundle_count, 0, "{mode:?}");
        let bundles =
            place.library.catalog().read(|r| r.bundle_entries()).map_err(|e: CatalogError| e).expect("bundles");
        assert_eq!((bundles.len(), bundles[0].files.len()), (1, 3));
        place.assert_sound();
    }
}

#[test]
fn a_bundle_with_a_bad_file_is_left_alone() {
    let place = Place::new();
    place.write("sdxl/model_index.json", b"{}");
    place.write("sdxl/unet/x.safetensors", &truncated());
    place.write("llm/q-00001-of-00002.safetensors", &model(1));
    place.write("llm/other.safetensors", &model(2));
    let summary = place.import("", ImportMode::Move);
    assert_eq!((summary.new_count, summary.bundle_count, summary.refused.len()), (1, 0, 3), "{summary:?}");
    assert!(place.path("sdxl/model_index.json").exists());
    assert!(place.path("llm/q-00001-of-00002.safetensors").exists());
}

#[test]
fn a_cache_snapshot_keeps_its_origin() {
    let place = Place::new();
    let commit = "c".repeat(40);
    let repo = "hub/models--org--loras";
    let sha256 =
        crate::store::hash_file(&place.write("tmp", &model(1)), None, &|_| (), &Cancel::new()).expect("hashed");
    let sha256 = sha256.0.sha256;
    place.write(&format!("{repo}/blobs/{sha256}"), &model(1));
    place.write(&format!("{repo}/blobs/{}", "ab".repeat(32)), &model(2));
    let snapshot = format!("{repo}/snapshots/{commit}");
    fs::create_dir_all(place.path(&snapshot)).expect("create");
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(format!("../../blobs/{target}"), place.path(&snapshot).join(name)).expect("link");
    };
    link(&sha256.to_string(), "style.safetensors");
    link(&"ab".repeat(32), "lie.safetensors");
    let summary = place.import("hub", ImportMode::Copy);
    assert_eq!((summary.new_count, summary.bundle_count, summary.refused.len()), (1, 1, 1), "{summary:?}");
    let info = place.info("hf:org/loras/style.safetensors");
    assert_eq!(info.summary.name, "style.safetensors");
    assert!(info.origins.iter().any(|origin| origin.repo == "org/loras" && origin.revision == commit));
    assert!(info.paths.iter().any(|path| path == "hubs/huggingface/org/loras/style.safetensors"), "{:?}", info.paths);
    for reference in ["/mnt/hubs/huggingface/org/loras/style.safetensors", "x/by/state/resident/style.safetensors"] {
        assert_eq!(place.info(reference).summary.id, info.summary.id, "{reference}");
    }
}

#[test]
fn a_repository_of_one_model_gives_it_its_name() {
    let place = Place::new();
    let snapshot = |commit: &str| format!("hub/models--org--my-style/snapshots/{}", commit.repeat(40));
    for (commit, seed) in [("a", 1), ("b", 2)] {
        place.write(&format!("{}/config.json", snapshot(commit)), format!("{{\"v\":{seed}}}").as_bytes());
        place.write(&format!("{}/model.safetensors", snapshot(commit)), &model(seed));
    }
    let summary = place.import("hub", ImportMode::Copy);
    assert_eq!((summary.new_count, summary.bundle_count, summary.refused.len()), (4, 2, 0), "{summary:?}");
    assert_eq!(place.names(), ["my-style.safetensors", "my-style.safetensors"]);
    let paths = |commit: &str| place.info(&format!("hf:org/my-style@{}", commit.repeat(40))).paths;
    let second = format!("hubs/huggingface/org/my-style@{}/model.safetensors", "b".repeat(10));
    assert!(paths("a").contains(&"hubs/huggingface/org/my-style/model.safetensors".to_owned()), "{:?}", paths("a"));
    assert!(paths("b").contains(&second), "{:?}", paths("b"));
    let again = place.import("hub", ImportMode::Copy);
    assert_eq!((again.new_count, again.bundle_count, again.unchanged_count), (0, 0, 4));
}

/// Hubs publish no hash of small files: `add` knows them by their place alone.
#[test]
fn a_cache_of_a_registered_repository_completes_it() {
    let place = Place::new();
    let commit = "a".repeat(40);
    let snapshot = format!("hub/models--org--my-style/snapshots/{commit}");
    place.write(&format!("{snapshot}/config.json"), b"{}");
    place.write(&format!("{snapshot}/model.safetensors"), &model(1));
    let repo = RepoId::new("org/my-style").expect("valid");
    let name = EntryName::new("my-style").expect("valid");
    let path = RelativePath::new("config.json").expect("valid");
    let library = &place.library;
    let registered = library.catalog().write(library.now(), |w| {
        let blob = w.add_blob(&NewBlob {
            sha256: None,
            size_bytes: 2,
            state: BlobState::Remote,
            mtime: w.now(),
            name: path.file_name(),
            hashes: None,
            etag: Some("e".to_owned()),
        })?;
        let source = Source::HuggingFace;
        let origin =
            OriginRow { source, repo: repo.to_string(), revision: commit.clone(), path: path.as_str().to_owned() };
        w.add_origin(blob, &origin)?;
        let bundle = w.add_bundle(&NewBundle {
            name: name.clone(),
            in_views: false,
            model_type: ModelType::Unknown,
            base: None,
            source,
            hub: Some(HubRepo { source, repo: repo.clone(), directory_name: name.clone() }),
            commit: Some(Revision::new(&commit).expect("valid")),
            files: vec![BundleFile { path: path.clone(), blob }],
            mtime: w.now(),
        })?;
        Shelf::begin(w)?.place_bundle(w, bundle)?;
        Ok::<_, CatalogError>(bundle)
    });
    let bundle = registered.expect("registered");
    let summary = place.import("hub", ImportMode::Copy);
    assert_eq!((summary.new_count, summary.refused.len()), (2, 0), "{summary:?}");
    let contents = library.catalog().read(|r| {
        let row = r.bundle(bundle)?.expect("there");
        row.files.iter().map(|file| Ok((file.path.to_string(), r.blob(file.blob)?.expect("there").state))).collect()
    });
    let contents: Vec<(String, BlobState)> = contents.map_err(|error: CatalogError| error).expect("read");
    let expected = ["config.json", "model.safetensors"].map(|path| (path.to_owned(), BlobState::Resident));
    assert_eq!(contents, expected);
    place.assert_sound();
}

/// As `add` registers it.
#[test]
fn a_remote_file_that_is_imported_is_here() {
    let place = Place::new();
    let path = place.write("mine.safetensors", &model(1));
    let sha256 = crate::store::hash_file(&path, None, &|_| (), &Cancel::new()).expect("hashed").0.sha256;
    let library = &place.library;
    let new = NewBlob {
        sha256: Some(sha256),
        size_bytes: model(1).len() as u64,
        state: BlobState::Remote,
        mtime: Timestamp::from_unix_ns(7),
        name: EntryName::new("theirs.safetensors").expect("valid"),
        hashes: None,
        etag: None,
    };
    let blob = library.catalog().write(library.now(), |w| w.add_blob(&new)).map_err(|error: CatalogError| error);
    let blob = blob.expect("registered");
    let summary = place.import("", ImportMode::Copy);
    assert_eq!((summary.new_count, summary.already_there_count), (1, 0));
    let info = place.info("mine");
    assert_eq!((info.summary.blob, info.summary.state), (blob, BlobState::Resident));
    assert!(info.blake3.is_some());
    let entry = library.catalog().read(|r| r.blob_entry(blob)).map_err(|error: CatalogError| error);
    let entry = entry.expect("read").expect("there");
    // Its time was told before and never changes.
    assert_eq!((entry.mtime.unix_ns(), entry.name.as_str()), (7, "mine.safetensors"));
    place.assert_sound();
}

#[test]
fn references_of_every_form() {
    let place = Place::new();
    let path = place.write("a.safetensors", &model(1));
    place.import("", ImportMode::Copy);
    let info = place.info("a");
    let sha256 = info.summary.sha256.expect("hashed");
    let forms = [
        info.summary.id.to_string(),
        format!("sha256:{}", sha256.prefix(8)),
        sha256.prefix(10).to_uppercase(),
        format!("/any/where/store/{sha256}/a.safetensors"),
        path.display().to_string(),
    ];
    for form in &forms {
        assert_eq!(place.info(form).summary.id, info.summary.id, "{form}");
    }
    for (form, kind) in [
        ("sha256:12", FaultKind::Invalid),
        ("sha256:00000000", FaultKind::NotFound),
        ("nothing", FaultKind::NotFound),
        ("hf:../x", FaultKind::Invalid),
        ("no/such/path", FaultKind::NotFound),
    ] {
        assert_eq!(place.library.info(form).expect_err(form).fault().kind, kind, "{form}");
    }
}

#[test]
fn queries_select_and_sort() {
    let place = Place::new();
    place.write("beta.safetensors", &model(1));
    place.write("alpha.safetensors", &model(2));
    place.import("", ImportMode::Copy);
    let names = |query: &str| -> Vec<String> {
        place.library.list(Some(query)).expect(query).into_iter().map(|model| model.name).collect()
    };
    assert_eq!(names(""), ["alpha.safetensors", "beta.safetensors"]);
    assert_eq!(names("alpha"), ["alpha.safetensors"]);
    assert_eq!(names("format:safetensors limit:1"), ["alpha.safetensors"]);
    assert_eq!(names("state:remote"), [""; 0]);
    assert_eq!(names("size>1GB"), [""; 0]);
    assert!(matches!(place.library.list(Some("(")), Err(LibraryError::Query { .. })));
}

#[test]
fn an_application_is_shown_and_hidden() {
    let place = Place::new();
    place.write("loras/a.safetensors", &model(1));
    place.import("", ImportMode::Copy);
    let apps = place.library.apps().expect("apps");
    let hidden = apps.iter().find(|app| !app.enabled).expect("one is off");
    let shown = || place.info("a").paths.iter().filter(|path| path.starts_with(&format!("{}/", hidden.name))).count();
    assert_eq!(shown(), 0);
    assert!(place.library.set_app_enabled(&hidden.name, true).expect("enabled"));
    assert!(!place.library.set_app_enabled(&hidden.name, true).expect("enabled"));
    assert!(place.library.set_app_enabled(&hidden.name, false).expect("disabled"));
    assert_eq!(shown(), 0);
    let unknown = place.library.set_app_enabled("nothing", true);
    assert_eq!(unknown.expect_err("unknown").fault().kind, FaultKind::NotFound);
}

#[test]
fn damage_is_found() {
    let place = Place::new();
    place.write("a.safetensors", &model(1));
    place.import("", ImportMode::Copy);
    let sha256 = place.info("a").summary.sha256.expect("hashed");
    let path = place.library.store().blob_path(&sha256, &EntryName::new("a.safetensors").expect("valid"));
    let verify = |references: &[String]| {
        let summary = place.library.verify(references, &Progress::default(), &Cancel::new()).expect("verified");
        (summary.checked_count, summary.findings.len())
    };
    assert_eq!(verify(&["a".to_owned()]), (1, 0));
    fs::remove_file(&path).expect("remove");
    assert_eq!(verify(&[]), (1, 1));
    fs::write(&path, model(2)).expect("write");
    assert_eq!(verify(&[]), (1, 1));
    fs::remove_file(&path).expect("remove");
    // The same file again mends it.
    fs::remove_file(place.path("a.safetensors")).expect("remove");
    place.write("again.safetensors", &model(1));
    assert_eq!(place.import("again.safetensors", ImportMode::Copy).refused, []);
    assert_eq!(verify(&[]), (1, 0));
    // Also when nothing about it changed, and the stored one was cut short.
    let stored = place.library.store().blob_path(&sha256, &EntryName::new("again.safetensors").expect("valid"));
    fs::remove_file(&stored).expect("remove");
    fs::write(&stored, &model(1)[1..]).expect("write");
    assert_eq!(verify(&[]), (1, 1));
    assert_eq!(place.import("again.safetensors", ImportMode::Copy).unchanged_count, 0);
    assert_eq!(verify(&[]), (1, 0));
    // The same size tells nothing: what `verify` names then mends it.
    fs::remove_file(&stored).expect("remove");
    fs::write(&stored, model(2)).expect("write");
    let found = place.library.verify(&[], &Progress::default(), &Cancel::new()).expect("verified").findings;
    assert!(found[0].remedy.contains("--mode move"), "{found:?}");
    place.import("again.safetensors", ImportMode::Move);
    assert_eq!(verify(&[]), (1, 0));
}

/// Between the row that says remote and the file that goes lies an instant in which somebody may open it.
#[test]
fn a_file_that_is_being_evicted_is_not_taken_for_one_that_arrived() {
    let place = Place::new();
    place.write("a.safetensors", &model(1));
    place.import("", ImportMode::Copy);
    let (library, summary) = (&place.library, place.info("a").summary);
    let set_remote = library.catalog().write(library.now(), |w| {
        shelf::set_blob_state(w, summary.blob, BlobState::Remote)?;
        w.blob(summary.blob)
    });
    let row = set_remote.map_err(|error: CatalogError| error).expect("written").expect("there");
    let eviction = library.store().begin_eviction(&row.sha256.expect("hashed"), &row.name).expect("not open");
    assert!(!arrival::find(library, &row).expect("looked"));
    assert_eq!(place.info("a").summary.state, BlobState::Remote);
    drop(eviction);
    assert!(arrival::find(library, &row).expect("looked"));
    assert_eq!(place.info("a").summary.state, BlobState::Resident);
}

#[test]
fn doctor_finds_a_new_store_in_order() {
    let place = Place::new();
    let checks = Library::checks(place.library.store().root());
    assert!(checks.len() >= 6, "{checks:?}");
    assert!(checks.iter().all(|check| check.status != crate::library::CheckStatus::Broken), "{checks:?}");
    let nowhere = Library::checks(&place.path("nothing"));
    assert_eq!((nowhere.len(), nowhere[0].status), (1, crate::library::CheckStatus::Broken));
}
