//! The tree against the obvious one, in a small world where everything meets everything.

use super::reference::Reference;
use super::*;
use crate::base::{
    BaseModel, BlobId, BlobState, BundleId, Digest, DirectoryId, EntryName, InodeNo, Label, ModelId, ModelType,
    RelativePath, RepoId, Timestamp,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

fn label(text: &str) -> Label {
    Label::new(text).expect("valid")
}

fn name(text: &str) -> EntryName {
    EntryName::new(text).expect("valid")
}

fn path(text: &str) -> RelativePath {
    RelativePath::new(text).expect("valid")
}

fn targets(enabled: [bool; 2]) -> Vec<Target> {
    let text = "
        [[app]]\nname = 'app'\ndisplay = 'App'
        folders = '''
            lora loras .ckpt,.bin for=sdxl
            lora other *
            vae ckpts .ckpt
            diffusers ckpts dirs
        '''
        [[app]]\nname = 'flat'\ndisplay = 'Flat'
        folders = '''
            any models *
            diffusers models/sub dirs
        '''
    ";
    let mut targets = parse_targets(text).expect("valid");
    targets.iter_mut().zip(enabled).for_each(|(target, enabled)| target.enabled = enabled);
    targets
}

const MODEL_NAMES: [&str; 5] = ["a.ckpt", "b.ckpt", "a~m2.ckpt", "a", "sub"];
const BUNDLE_NAMES: [&str; 2] = ["a.ckpt", "bun"];
const MODEL_TYPES: [ModelType; 4] = [ModelType::Lora, ModelType::Vae, ModelType::Diffusers, ModelType::Unknown];
const INSIDE: [&str; 6] = ["in", "in/deep", "in/deep/y.bin", "in/x.bin", "in/x.bin/z", "m.bin"];

/// Every directory of the small world with its owner; a row's key is its position here.
fn pool() -> Vec<(RelativePath, Option<i64>)> {
    let mut plain = static_directories();
    plain.extend(targets([true, true]).iter().flat_map(target_directories));
    let more = [
        "by/type/lora",
        "by/type/vae",
        "by/type/diffusers",
        "by/type/unknown",
        "by/base/sdxl",
        "by/base/unknown",
        "by/source/local",
        "by/source/huggingface",
        "by/tag/x",
        "by/tag/y",
        "by/creator/ann",
        "hubs/huggingface/org",
        "store/sub",
        ".modelfs",
        "alone",
        "app/models/user",
    ];
    plain.extend(more.map(path));
    let mut pool: Vec<_> = plain.into_iter().map(|path| (path, None)).collect();
    let homes = [
        "app/ckpts",
        "flat/models/sub",
        "by/type/diffusers",
        "by/base/unknown",
        "by/source/local",
        "hubs/huggingface/org",
        "app/_unsorted",
    ];
    for (home, (owner, text)) in homes.iter().flat_map(|home| [(1, "bun"), (2, "a.ckpt")].map(|it| (home, it))) {
        pool.push((path(&format!("{home}/{text}")), Some(owner)));
        pool.extend(["in", "in/deep"].map(|inside| (path(&format!("{home}/{text}/{inside}")), Some(owner))));
    }
    pool
}

fn row(index: usize, mtime: i64) -> DirectoryEntry {
    let (path, bundle) = pool().swap_remove(index);
    let id = DirectoryId::new(i64::try_from(index).expect("few") + 1);
    DirectoryEntry { id, path, mtime: Timestamp::from_unix_ns(mtime), bundle: bundle.map(BundleId::new) }
}

fn any_row() -> impl Strategy<Value = DirectoryEntry> {
    (0..pool().len(), 0i64..4).prop_map(|(index, mtime)| row(index, mtime))
}

/// Rows as no catalog gives them: any key, any path, any owner.
fn wild_row() -> impl Strategy<Value = DirectoryEntry> {
    let id = prop_oneof![1i64..90, select(vec![0, -1, i64::MIN, i64::MAX])];
    (any_row(), id, proptest::option::of(1i64..4)).prop_map(|(row, id, bundle)| DirectoryEntry {
        id: DirectoryId::new(id),
        bundle: bundle.map(BundleId::new),
        ..row
    })
}

fn any_blob() -> impl Strategy<Value = BlobEntry> {
    let id = prop_oneof![20 => 1i64..7, 1 => select(vec![0, -1, i64::MAX])];
    (id, any::<bool>(), 0u64..3, select(BlobState::ALL.to_vec()), 0i64..3, select(MODEL_NAMES.to_vec())).prop_map(
        |(id, known, size_bytes, state, mtime, text)| {
            // Most contents have their own hash for ever; one gets and loses it, two share one.
            let sha256 = match id {
                1 | 2 | 6 => Some(id),
                3 => known.then_some(3),
                4 if known => Some(2),
                _ => None,
            };
            BlobEntry {
                id: BlobId::new(id),
                sha256: sha256.map(|id| Digest::from_bytes([u8::try_from(id).expect("small"); 32])),
                size_bytes,
                state,
                mtime: Timestamp::from_unix_ns(mtime),
                name: name(text),
                handout: Handout::Free,
            }
        },
    )
}

fn sources() -> impl Strategy<Value = SourceSet> {
    select(vec![SourceSet::default().with(Source::Local), SourceSet::default().with(Source::HuggingFace)])
}

fn base() -> impl Strategy<Value = Option<BaseModel>> {
    proptest::option::of(Just(BaseModel::parse("sdxl").expect("valid")))
}

fn any_model() -> impl Strategy<Value = ModelEntry> {
    let id = prop_oneof![20 => 1i64..7, 1 => select(vec![0, i64::MIN, i64::MAX])];
    let facts = (select(MODEL_NAMES.to_vec()), select(MODEL_TYPES.to_vec()), base(), sources());
    let also = vec(select(vec!["app/models/user", "app/_unsorted", "app/ckpts", "alone"]), 0..2);
    (id, 1i64..8, facts, any::<bool>(), vec(select(vec!["x", "y"]), 0..3), also).prop_map(
        |(id, blob, (text, model_type, base, sources), creator, tags, also)| ModelEntry {
            id: ModelId::new(id),
            blob: BlobId::new(blob),
            name: name(text),
            model_type,
            base,
            sources,
            format: label("pt"),
            creator: creator.then(|| label("ann")),
            tags: tags.into_iter().map(label).collect(),
            also: also.into_iter().map(path).collect(),
        },
    )
}

fn any_bundle() -> impl Strategy<Value = BundleEntry> {
    let facts = (select(MODEL_TYPES.to_vec()), base(), sources());
    let files = subsequence(INSIDE.to_vec(), 0..=INSIDE.len());
    (1i64..4, select(BUNDLE_NAMES.to_vec()), any::<bool>(), facts, any::<bool>(), files, vec(1i64..8, INSIDE.len()))
        .prop_map(|(id, text, in_views, (model_type, base, sources), hub, files, blobs)| BundleEntry {
            id: BundleId::new(id),
            name: name(text),
            in_views,
            model_type,
            base,
            sources,
            hub: hub.then(|| HubRepo {
                source: Source::HuggingFace,
                repo: RepoId::new("org/x").expect("valid"),
                directory_name: name(if id == 1 { "bun" } else { text }),
            }),
            files: files
                .iter()
                .zip(blobs)
                .map(|(file, blob)| BundleFile { path: path(file), blob: BlobId::new(blob) })
                .collect(),
            mtime: Timestamp::default(),
        })
}

fn any_occupant() -> impl Strategy<Value = Occupant> {
    prop_oneof![
        (1i64..7).prop_map(|id| Occupant::Model(ModelId::new(id))),
        (1i64..4).prop_map(|id| Occupant::Bundle(BundleId::new(id))),
    ]
}

fn any_placement() -> impl Strategy<Value = Placement> {
    (0..pool().len(), any_occupant(), select(MODEL_NAMES.to_vec())).prop_map(|(index, occupant, text)| Placement {
        directory: pool().swap_remove(index).0,
        occupant,
        name: name(text),
    })
}

fn any_targets() -> impl Strategy<Value = Vec<Target>> {
    any::<[bool; 2]>().prop_map(targets)
}

prop_compose! {
    fn any_snapshot()(
        time in 0i64..3,
        blobs in vec(any_blob(), 0..8),
        models in vec(any_model(), 0..8),
        bundles in vec(any_bundle(), 0..4),
        missing in vec(0..pool().len(), 0..8),
        wild in vec(wild_row(), 0..2),
        placements in vec(any_placement(), 0..6),
        targets in prop_oneof![3 => Just(targets([true, true])), 1 => any_targets()],
    ) -> Snapshot {
        let rows = (0..pool().len()).filter(|index| !missing.contains(index)).map(|index| row(index, 0));
        let directories = rows.chain(wild.into_iter().filter(|_| missing.len() == 7)).collect();
        Snapshot { revision: 1, root_mtime: Timestamp::from_unix_ns(time), blobs, models, bundles, directories, placements, targets, merged: Vec::new() }
    }
}

prop_compose! {
    fn any_delta()(
        time in 0i64..3,
        blobs in vec(any_blob(), 0..3),
        models in vec(any_model(), 0..3),
        bundles in vec(any_bundle(), 0..2),
        directories in vec(any_row(), 0..4),
        wild in vec(wild_row(), 0..2),
        wildness in 0..10,
        placements in vec(any_placement(), 0..2),
        gone in vec(any_occupant(), 0..3),
        targets in proptest::option::weighted(0.1, any_targets()),
        merged in vec((1i64..7, 1i64..7), 0..2),
        forgotten in proptest::option::weighted(0.1, 1i64..7),
    ) -> Delta {
        let directories = directories.into_iter().chain(wild.into_iter().filter(|_| wildness == 0)).collect();
        let merged = merged.into_iter().map(|(from, into)| (BlobId::new(from), BlobId::new(into))).collect();
        let forgotten = forgotten.map(BlobId::new).into_iter().collect();
        Delta { forgotten, merged, revision: 2, root_mtime: Timestamp::from_unix_ns(time), blobs, models, bundles, directories, placements, gone, targets }
    }
}

/// The rows after a change, as a catalog would give them.
fn after(mut snapshot: Snapshot, delta: Delta) -> Snapshot {
    snapshot.revision = delta.revision;
    snapshot.root_mtime = delta.root_mtime;
    snapshot.blobs.extend(delta.blobs);
    snapshot.models.extend(delta.models);
    snapshot.bundles.extend(delta.bundles);
    snapshot.directories.extend(delta.directories);
    snapshot.placements.extend(delta.placements);
    snapshot.blobs.retain(|blob| delta.merged.iter().all(|(from, _)| *from != blob.id));
    snapshot.merged.extend(delta.merged);
    snapshot.blobs.retain(|blob| !delta.forgotten.contains(&blob.id));
    snapshot.models.retain(|model| !delta.gone.contains(&Occupant::Model(model.id)));
    snapshot.bundles.retain(|bundle| !delta.gone.contains(&Occupant::Bundle(bundle.id)));
    if let Some(targets) = delta.targets {
        snapshot.targets = targets;
    }
    snapshot
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_new_tree_is_the_obvious_one(snapshot in any_snapshot()) {
        Reference::new(&snapshot).check(&Tree::new(snapshot));
    }

    #[test]
    fn a_changed_tree_is_a_new_one_and_names_what_differs(
        mut snapshot in any_snapshot(),
        deltas in vec(any_delta(), 1..5),
    ) {
        let mut tree = Tree::new(snapshot.clone());
        let mut before = Reference::new(&snapshot);
        for delta in deltas {
            snapshot = after(snapshot, delta.clone());
            let reference = Reference::new(&snapshot);
            let (changed, change) = tree.apply(delta);
            reference.check(&changed);
            before.check(&tree);
            prop_assert_eq!(change, before.change_to(&reference));
            (tree, before) = (changed, reference);
        }
    }
}

/// One LoRA in the rows of the small world, and its key.
fn one_model() -> Snapshot {
    let model = ModelEntry {
        id: ModelId::new(1),
        blob: BlobId::new(1),
        name: name("a.ckpt"),
        model_type: ModelType::Lora,
        base: None,
        sources: SourceSet::default().with(Source::Local),
        creator: None,
        format: label("pt"),
        tags: [].into(),
        also: [].into(),
    };
    let blob = BlobEntry {
        id: BlobId::new(1),
        sha256: Some(Digest::from_bytes([7; 32])),
        size_bytes: 5,
        state: BlobState::Remote,
        mtime: Timestamp::from_unix_ns(9),
        name: name("a.ckpt"),
        handout: Handout::Free,
    };
    let directories = (0..pool().len()).map(|index| row(index, 0)).collect();
    let targets = targets([true, false]);
    Snapshot { blobs: vec![blob], models: vec![model], directories, targets, ..Snapshot::default() }
}

fn shown(tree: &Tree) -> Vec<String> {
    tree.paths_of_blob(BlobId::new(1)).iter().map(RelativePath::to_string).collect()
}

#[test]
fn a_model_is_shown_under_every_name_it_has() {
    let tree = Tree::new(one_model());
    let store = format!("store/{}/a.ckpt", "07".repeat(32));
    let expected = [
        "app/other/a.ckpt",
        "by/base/unknown/a.ckpt",
        "by/source/local/a.ckpt",
        "by/state/remote/a.ckpt",
        "by/type/lora/a.ckpt",
        &store,
    ];
    assert_eq!(shown(&tree), expected);
    let attributes = tree.resolve(&path("app/other/a.ckpt")).expect("shown");
    assert_eq!((attributes.nlink, attributes.size_bytes, attributes.mtime), (6, 5, Timestamp::from_unix_ns(9)));
    assert_eq!(tree.resolve(&path(&store)).expect("shown"), attributes);
}

#[test]
fn a_home_without_a_row_is_not_shown_until_the_row_is_there() {
    let mut rows = one_model();
    let whole = Tree::new(rows.clone());
    let missing = rows.directories.iter().position(|row| row.path == path("app/other")).expect("in the pool");
    let missing = rows.directories.remove(missing);
    let tree = Tree::new(rows);
    assert_eq!(tree.resolve(&path("app/other")), None);
    assert_eq!(shown(&tree), shown(&whole)[1..]);
    let (later, change) = tree.apply(Delta { directories: vec![missing], ..Delta::default() });
    assert_eq!(shown(&later), shown(&whole));
    let app = whole.resolve(&path("app")).expect("shown").ino;
    assert_eq!((change.names, change.directories), (vec![(app, name("other"))], vec![app]));
    assert_eq!(change.files, [BlobId::new(1)]);
}

#[test]
fn a_plain_directory_above_is_needed_too() {
    let mut rows = one_model();
    rows.directories.retain(|row| row.path != path("by"));
    assert_eq!(shown(&Tree::new(rows)).len(), 2);
}

#[test]
fn a_file_that_becomes_resident_moves_by_state_and_is_named() {
    let rows = one_model();
    let tree = Tree::new(rows.clone());
    let blob = BlobEntry { state: BlobState::Resident, ..rows.blobs[0].clone() };
    let (after, change) = tree.apply(Delta { blobs: vec![blob], ..Delta::default() });
    let directory = |text: &str| tree.resolve(&path(text)).expect("shown").ino;
    let (remote, resident) = (directory("by/state/remote"), directory("by/state/resident"));
    let mut expected = [(remote, name("a.ckpt")), (resident, name("a.ckpt"))];
    expected.sort();
    assert_eq!((&change.names[..], &change.files[..]), (&expected[..], &[BlobId::new(1)][..]));
    assert!(shown(&after).contains(&"by/state/resident/a.ckpt".to_owned()));
}

#[test]
fn the_number_of_a_content_that_became_another_leads_there() {
    let blob = |id: i64, digest: Option<u8>| BlobEntry {
        id: BlobId::new(id),
        sha256: digest.map(|byte| Digest::from_bytes([byte; 32])),
        size_bytes: 5,
        state: if digest.is_some() { BlobState::Resident } else { BlobState::Remote },
        mtime: Timestamp::default(),
        name: name("a.pt"),
        handout: Handout::Free,
    };
    let numbers = [1, 2, 3].map(|id| InodeNo::of_blob(BlobId::new(id)).expect("in range"));
    let tree = Tree::new(Snapshot { blobs: vec![blob(1, None), blob(2, Some(9))], ..Snapshot::default() });
    let merged = vec![(BlobId::new(1), BlobId::new(2))];
    let (after, change) = tree.apply(Delta { merged: merged.clone(), ..Delta::default() });
    assert_eq!(change.files, [BlobId::new(1)], "what the kernel knows of it is no longer true");
    let led = after.attributes(numbers[0]).expect("never gone");
    assert_eq!((led.ino, led.kind), (numbers[0], NodeKind::Blob(BlobId::new(2))));
    assert_eq!((after.current(BlobId::new(1)), after.current(BlobId::new(2))), (BlobId::new(2), BlobId::new(2)));
    assert!(after.blob(BlobId::new(1)).is_none() && after.attributes(numbers[2]).is_none());
    let again = Tree::new(Snapshot { blobs: vec![blob(2, Some(9))], merged, ..Snapshot::default() });
    assert_eq!(again.attributes(numbers[0]), Some(led));
}

#[test]
fn an_empty_tree_has_its_root_and_live_files() {
    let tree = Tree::new(Snapshot::default());
    assert_eq!(tree.resolve(&path(".modelfs/status.json")).map(|it| it.kind), Some(NodeKind::Live(LiveFile::Status)));
    let names: Vec<_> = tree.listing(crate::base::InodeNo::ROOT).iter().flat_map(|it| it.iter_from(0)).collect();
    assert_eq!(names.len(), 1);
    assert_eq!((tree.revision(), tree.model_count(), tree.blob_count()), (0, 0, 0));
}
