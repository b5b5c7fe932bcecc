//! What a pickle would import when it is loaded → whether it can be handed to a program that loads it.
//!
//! Data in `rules/imports.toml`. Invariants: a file is safe only when every import is known to make data; what is not
//! known is suspicious, never safe; nothing is judged by the name of the file alone. Not here: finding the imports
//! (`formats`, which never runs them), keeping and applying the answer (`catalog`, `library`).

use std::collections::HashSet;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::base::Safety;
use crate::formats::{Format, Header, NOTE_KEY};

/// Counts up with every change of the lists: contents that were judged by another number are judged again.
pub const DANGER_VERSION: u32 = 3;

/// Names that one `[a,b]` notation may stand for; more is a mistake in the list.
const ALTERNATIVES_MAX: usize = 512;

/// Endings of files that programs hand to an unpickler whatever their bytes are.
const UNPICKLED_SUFFIXES: [&str; 5] = [".ckpt", ".pt", ".pth", ".bin", ".pkl"];

static LISTS: LazyLock<Lists> =
    LazyLock::new(|| Lists::parse(include_str!("rules/imports.toml")).expect("the shipped lists are tested"));

/// One thing that makes a file less than safe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Danger {
    /// An import such as `posix.system`, or what else is odd, in words.
    pub what: String,
    pub safety: Safety,
}

/// Everything about a file that is not known to be harmless, worst first; nothing for one that only holds data.
pub fn dangers(header: &Header, file_name: &str) -> Vec<Danger> {
    // Bytes that are no pickle to the end do nothing to programs that hand them to no unpickler.
    let is_read = header.format != Format::Other || is_unpickled(file_name);
    let mut found: Vec<Danger> = header
        .imports
        .iter()
        .filter(|_| is_read)
        .map(|import| Danger { what: import.clone(), safety: LISTS.safety_of(import) })
        .filter(|danger| danger.safety != Safety::Safe)
        .collect();
    let suspect = |what: String| Danger { what, safety: Safety::Suspicious };
    // Two readers may see different pickles in one file; what a reader found odd is where they differ.
    let odd = || header.metadata.iter().filter(|(key, _)| key == NOTE_KEY).map(|(_, note)| suspect(note.clone()));
    match header.format {
        Format::TorchZip | Format::TorchLegacy | Format::Pickle => found.extend(odd()),
        Format::Gguf | Format::Other if is_unpickled(file_name) => {
            if header.format == Format::Other {
                found.extend(odd());
            }
            // Torch would read the one as pickles that nobody looked at, and the first bytes of the other are opcodes.
            let container = header.metadata.iter().find(|(key, _)| key == "container").map(|(_, word)| word.as_str());
            let container = if header.format == Format::Gguf { Some("gguf") } else { container };
            if let Some(container @ ("gguf" | "tar")) = container {
                found.push(suspect(format!("its bytes are {container}, its name is that of a pickle")));
            }
        }
        Format::Safetensors | Format::Gguf | Format::Onnx | Format::Other => {}
    }
    // Stable: imports stay in their order.
    found.sort_by_key(|danger| std::cmp::Reverse(danger.safety));
    found
}

/// The worst of all.
pub fn safety(header: &Header, file_name: &str) -> Safety {
    dangers(header, file_name).first().map_or(Safety::Safe, |danger| danger.safety)
}

/// Whether programs hand a file of this name to an unpickler, whatever its bytes are.
pub fn is_unpickled(file_name: &str) -> bool {
    let lower = file_name.to_ascii_lowercase();
    UNPICKLED_SUFFIXES.iter().any(|suffix| lower.ends_with(suffix))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLists {
    safe: Vec<String>,
    safe_to_call: Vec<String>,
    r#unsafe: Vec<String>,
    unsafe_parts: Vec<String>,
}

struct Lists {
    safe: Names,
    safe_to_call: Names,
    refused: Names,
    refused_parts: HashSet<String>,
}

impl Lists {
    fn parse(text: &str) -> Result<Self, String> {
        let raw: RawLists = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        Ok(Self {
            safe: Names::parse(&raw.safe)?,
            safe_to_call: Names::parse(&raw.safe_to_call)?,
            refused: Names::parse(&raw.r#unsafe)?,
            refused_parts: raw.unsafe_parts.into_iter().collect(),
        })
    }

    fn safety_of(&self, import: &str) -> Safety {
        if let Some(called) = import.strip_suffix("()") {
            // What is known by its whole name is known when it is called; what is not known at all is listed itself.
            let parts: Vec<&str> = called.split('.').collect();
            let is_harmless = self.safe.plain.contains(called) || self.safe_to_call.have(called, &parts);
            return if is_harmless || !self.safe.have(called, &parts) { Safety::Safe } else { Safety::Suspicious };
        }
        let parts: Vec<&str> = import.split('.').collect();
        if self.refused.have(import, &parts) {
            return Safety::Unsafe;
        }
        if self.safe.have(import, &parts) {
            return Safety::Safe;
        }
        let is_refused = parts.iter().any(|part| self.refused_parts.contains(*part));
        if is_refused { Safety::Unsafe } else { Safety::Suspicious }
    }
}

/// A list of names: those without wildcards by lookup, the others one by one.
struct Names {
    plain: HashSet<String>,
    patterns: Vec<Vec<Part>>,
}

enum Part {
    Text(String),
    One,
    Class,
    Rest,
}

impl Names {
    fn parse(texts: &[String]) -> Result<Self, String> {
        let (mut plain, mut patterns) = (HashSet::new(), Vec::new());
        for name in texts.iter().map(|text| alternatives(text)).collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
            let parts: Vec<Part> = name.split('.').map(Part::of).collect();
            if parts.iter().all(|part| matches!(part, Part::Text(_))) {
                plain.insert(name);
            } else if parts.iter().rev().skip(1).any(|part| matches!(part, Part::Rest)) {
                return Err(format!("in `{name}` only the last part can be `**`"));
            } else {
                patterns.push(parts);
            }
        }
        Ok(Self { plain, patterns })
    }

    fn have(&self, import: &str, parts: &[&str]) -> bool {
        self.plain.contains(import) || self.patterns.iter().any(|pattern| fits(pattern, parts))
    }
}

impl Part {
    fn of(text: &str) -> Self {
        match text {
            "*" => Self::One,
            "@" => Self::Class,
            "**" => Self::Rest,
            _ => Self::Text(text.to_owned()),
        }
    }
}

fn fits(pattern: &[Part], parts: &[&str]) -> bool {
    if matches!(pattern.last(), Some(Part::Rest)) {
        if parts.len() < pattern.len() {
            return false;
        }
    } else if parts.len() != pattern.len() {
        return false;
    }
    pattern.iter().zip(parts).all(|(part, actual)| match part {
        Part::Text(text) => text == actual,
        Part::One => !actual.is_empty(),
        Part::Class => actual.trim_start_matches('_').starts_with(|first: char| first.is_ascii_uppercase()),
        Part::Rest => true,
    })
}

/// Every name that `[a,b]` groups stand for.
fn alternatives(name: &str) -> Result<Vec<String>, String> {
    let (mut done, mut open) = (Vec::new(), vec![name.to_owned()]);
    while let Some(next) = open.pop() {
        let Some((before, rest)) = next.split_once('[') else {
            done.push(next);
            continue;
        };
        let (inner, after) = rest.split_once(']').ok_or_else(|| format!("in `{name}` a `[` has no `]`"))?;
        open.extend(inner.split(',').map(|choice| format!("{before}{choice}{after}")));
        if open.len() + done.len() > ALTERNATIVES_MAX {
            return Err(format!("`{name}` stands for more than {ALTERNATIVES_MAX} names"));
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(format: Format, imports: &[&str]) -> Header {
        let imports = imports.iter().map(|import| (*import).to_owned()).collect();
        Header { format, tensors: Vec::new(), metadata: Vec::new(), imports, data_start: None }
    }

    #[test]
    fn imports_are_told_apart() {
        for (import, expected) in [
            ("collections.OrderedDict", Safety::Safe),
            ("torch._utils._rebuild_tensor_v2", Safety::Safe),
            ("torch.BFloat16Storage", Safety::Safe),
            ("torch.float8_e4m3fn", Safety::Safe),
            ("numpy.core.multiarray.scalar", Safety::Safe),
            ("numpy._core.multiarray._reconstruct", Safety::Safe),
            ("numpy.dtypes.Float64DType", Safety::Safe),
            ("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint", Safety::Safe),
            ("omegaconf.dictconfig.DictConfig", Safety::Safe),
            ("ultralytics.nn.tasks.DetectionModel", Safety::Safe),
            ("models.yolo.Model", Safety::Safe),
            ("torch.nn.modules.container.Sequential", Safety::Safe),
            ("__torch__.saicinpainting.training.LaMa", Safety::Safe),
            ("__builtin__.set", Safety::Safe),
            ("posix.system", Safety::Unsafe),
            ("os.system", Safety::Unsafe),
            ("nt.popen", Safety::Unsafe),
            ("subprocess.Popen", Safety::Unsafe),
            ("builtins.eval", Safety::Unsafe),
            ("__builtin__.getattr", Safety::Unsafe),
            ("webbrowser.open", Safety::Unsafe),
            ("torch.hub.load", Safety::Unsafe),
            ("numpy.testing._private.utils.runstring", Safety::Unsafe),
            ("runpy._run_code", Safety::Unsafe),
            // Newer pickles reach through modules with a dotted name.
            ("torch.nn.modules.module.torch.os.system", Safety::Unsafe),
            ("torch.nn.modules.module.torch.utils.cpp_extension.subprocess.Popen", Safety::Unsafe),
            ("torch.nn.modules.module.warnings.warn", Safety::Suspicious),
            ("torch.nn.modules.module.register_hook", Safety::Suspicious),
            ("ultralytics.utils.checks.check_requirements", Safety::Suspicious),
            ("some.project.Network", Safety::Suspicious),
            ("__main__.Model", Safety::Suspicious),
            ("copyreg.extension_7", Safety::Suspicious),
            // The bytes inside are a pickle of their own that was not looked at.
            ("torch.storage._load_from_bytes", Safety::Suspicious),
            ("?.?", Safety::Suspicious),
            ("", Safety::Suspicious),
        ] {
            assert_eq!(safety(&header(Format::TorchZip, &[import]), "a.pt"), expected, "{import}");
        }
    }

    #[test]
    fn the_worst_import_counts_and_comes_first() {
        let imports = ["a.B", "collections.OrderedDict", "os.system", "z.Z"];
        let found = dangers(&header(Format::Pickle, &imports), "a.pt");
        let shown: Vec<(&str, Safety)> = found.iter().map(|danger| (danger.what.as_str(), danger.safety)).collect();
        let expected = [("os.system", Safety::Unsafe), ("a.B", Safety::Suspicious), ("z.Z", Safety::Suspicious)];
        assert_eq!(shown, expected);
        assert_eq!(safety(&header(Format::Pickle, &[]), "a.pt"), Safety::Safe);
    }

    #[test]
    fn a_container_under_the_name_of_a_pickle_is_doubted() {
        let tar = |name: &str| {
            let mut header = header(Format::Other, &[]);
            header.metadata.push(("container".to_owned(), "tar".to_owned()));
            safety(&header, name)
        };
        assert_eq!((tar("old.PTH"), tar("old.tar")), (Safety::Suspicious, Safety::Safe));
        let gguf = header(Format::Gguf, &[]);
        assert_eq!((safety(&gguf, "a.ckpt"), safety(&gguf, "a.gguf")), (Safety::Suspicious, Safety::Safe));
        assert_eq!(safety(&header(Format::Safetensors, &[]), "a.pt"), Safety::Safe);
        let mut odd = header(Format::TorchZip, &["collections.OrderedDict"]);
        odd.metadata.push((NOTE_KEY.to_owned(), "it holds several `data.pkl`, read is the first".to_owned()));
        assert_eq!(safety(&odd, "a.pt"), Safety::Suspicious);
    }

    #[test]
    fn bytes_that_only_begin_as_a_pickle_are_judged_where_they_are_unpickled() {
        let read = |bytes: &[u8]| crate::formats::read_header(&bytes).expect("bytes nobody knows");
        let long = [b"N0".repeat(3000), b"cposix\nsystem\n(S'id'\ntR\xff".to_vec()].concat();
        let cases: [(&[u8], Safety); 8] = [
            (&long, Safety::Unsafe),
            (b"cposix\nsystem\n(S'id'\ntR\xff", Safety::Unsafe),
            (b"(S'id'\niposix\nsystem\n\xff", Safety::Unsafe),
            (b"Np1_0\n0cposix\nsystem\n(S'id'\ntR\xff", Safety::Unsafe),
            (b"ccollections\nOrderedDict\n\xff", Safety::Suspicious),
            (&[&[b'N'; 1 << 20][..], b"cposix\nsystem\n)R."].concat(), Safety::Suspicious),
            (b"c\x01\x02\n\xff\n\xff", Safety::Safe),
            (b"\x12\x34 raw numbers \xff", Safety::Safe),
        ];
        for (bytes, expected) in cases {
            let header = read(bytes);
            assert_eq!(header.format, Format::Other, "{}", bytes.escape_ascii());
            assert_eq!(safety(&header, "a.pt"), expected, "{}", bytes[bytes.len().saturating_sub(60)..].escape_ascii());
            assert_eq!(safety(&header, "merges.txt"), Safety::Safe);
        }
    }

    /// Torch looks for a tar before it looks for pickles, by nothing but the checksum of its first member.
    #[test]
    fn a_tar_that_begins_as_something_else_is_doubted() {
        let tar = |start: &[u8], magic: &[u8], number: fn(u32) -> String| {
            let mut bytes = vec![0; 2048];
            bytes[..start.len()].copy_from_slice(start);
            bytes[257..][..magic.len()].copy_from_slice(magic);
            bytes[148..156].fill(b' ');
            let sum = bytes[..512].iter().map(|&byte| u32::from(byte)).sum();
            bytes[148..][..number(sum).len()].copy_from_slice(number(sum).as_bytes());
            bytes
        };
        let plain: fn(u32) -> String = |sum| format!("{sum:06o}\0");
        let whole_pickle = b"\x80\x02}.";
        for bytes in [
            tar(b"storages", b"ustar", plain),
            tar(b"storages", b"", plain),
            tar(b"storages", b"", |sum| format!(" 0o{sum:o}")),
            tar(whole_pickle, b"", plain),
            tar(b"\x10\0\0\0\0\0\0\0{}", b"", plain),
        ] {
            let header = crate::formats::read_header(bytes.as_slice()).expect("a tar");
            assert_eq!((header.format, safety(&header, "a.pt")), (Format::Other, Safety::Suspicious));
        }
        let wrong = tar(b"storages", b"", |sum| format!("{:06o}\0", sum + 1));
        let header = crate::formats::read_header(wrong.as_slice()).expect("bytes nobody knows");
        assert_eq!(safety(&header, "a.pt"), Safety::Safe);
    }

    /// The constructor of a network evaluates a text of its settings; to make one anew runs none of it.
    #[test]
    fn classes_are_made_anew_and_not_called() {
        const NETWORK: &str = "cultralytics.nn.tasks\nDetectionModel\n";
        const SETTINGS: &str = "}S'activation'\nS'print()'\ns";
        let of = |opcodes: String| {
            // One byte for each character.
            let opcodes: Vec<u8> = opcodes.chars().map(|opcode| u32::from(opcode).to_le_bytes()[0]).collect();
            let bytes = [b"\x80\x02", opcodes.as_slice(), b"."].concat();
            safety(&crate::formats::read_header(bytes.as_slice()).expect("a pickle"), "a.pt")
        };
        let new = "ccollections\nOrderedDict\n)R";
        let cases = [
            ("made anew", format!("{NETWORK})\u{81}}}b"), Safety::Safe),
            ("called", format!("{NETWORK}({SETTINGS}tR"), Safety::Suspicious),
            (
                "called as a member of old",
                format!("({SETTINGS}iultralytics.nn.tasks\nDetectionModel\n"),
                Safety::Suspicious,
            ),
            ("called as an object of old", format!("({NETWORK}{SETTINGS}o"), Safety::Suspicious),
            (
                "the class of old",
                format!("ccopy_reg\n_reconstructor\n({NETWORK}c__builtin__\nobject\nNtR}}b"),
                Safety::Safe,
            ),
            ("its own base", format!("ccopy_reg\n_reconstructor\n({NETWORK}{NETWORK}{SETTINGS}tR"), Safety::Suspicious),
            (
                "through a generator",
                format!("cnumpy.random._pickle\n__generator_ctor\n({SETTINGS}{NETWORK}tR"),
                Safety::Suspicious,
            ),
            (
                "through a type",
                format!("ctorch._tensor\n_rebuild_from_type_v2\n({NETWORK}N({SETTINGS}tNtR"),
                Safety::Suspicious,
            ),
            ("through its attribute", format!("{new}}}S'__setstate__'\n{NETWORK}sb{SETTINGS}b"), Safety::Suspicious),
            ("through another attribute", format!("{new}}}S'append'\n{NETWORK}sb{SETTINGS}a"), Safety::Suspicious),
            ("an object is called", format!("{NETWORK})\u{81}}}b({SETTINGS}tR"), Safety::Suspicious),
            ("a class is changed", format!("{NETWORK}}}b"), Safety::Suspicious),
            ("metadata of a state", format!("{new}S'a'\nK\x01s}}S'_metadata'\n{new}sb"), Safety::Safe),
            (
                "a generator",
                "cnumpy.random._pickle\n__generator_ctor\n(cnumpy.random._pickle\n__bit_generator_ctor\n\
                (cnumpy.random._pcg64\nPCG64\ntRtR"
                    .to_owned(),
                Safety::Safe,
            ),
        ];
        for (what, opcodes, expected) in cases {
            assert_eq!(of(opcodes), expected, "{what}");
        }
    }

    #[test]
    fn what_the_lists_cannot_mean_is_refused() {
        for text in ["a.[b", "a.**.b"] {
            assert!(Names::parse(&[text.to_owned()]).is_err(), "{text}");
        }
    }
}
