//! What is read from pickles: tensors of every kind of writer, metadata, imports, and the values of each opcode.

use super::sample::{Writer, state_dict};
use super::*;
use crate::formats::limits::{Collector, NOTE_KEY, WALK_BYTES_MAX};
use crate::formats::window::Window;
use crate::formats::{Format, FormatError, Header};

fn read(bytes: &[u8]) -> Result<Header, FormatError> {
    let mut machine = Machine::new(Window::new(&bytes, Format::Pickle, 0, WALK_BYTES_MAX), Format::Pickle);
    let value = machine.run()?;
    let mut facts = Collector::new(Format::Pickle);
    collect(&machine.into_heap(), value, &mut facts)?;
    Ok(facts.finish())
}

/// `name dtype [shape]` of each tensor.
fn tensors(bytes: &[u8]) -> Vec<String> {
    let header = read(bytes).expect("a pickle");
    header.tensors.iter().map(|tensor| format!("{} {} {:?}", tensor.name, tensor.dtype, tensor.shape)).collect()
}

fn metadata(bytes: &[u8]) -> Vec<(String, String)> {
    read(bytes).expect("a pickle").metadata
}

#[test]
fn a_state_dict_gives_names_types_and_shapes() {
    let bytes = state_dict(&[
        ("model.weight", "FloatStorage", &[4, 3]),
        ("model.bias", "HalfStorage", &[4]),
        ("scale", "BFloat16Storage", &[]),
        ("count", "LongStorage", &[0, 2]),
        ("odd", "NewStorage", &[1]),
    ]);
    assert_eq!(
        tensors(&bytes),
        ["model.weight F32 [4, 3]", "model.bias F16 [4]", "scale BF16 []", "count I64 [0, 2]", "odd UNKNOWN [1]"]
    );
    let imports = read(&bytes).expect("a pickle").imports;
    assert_eq!(
        imports,
        [
            "collections.OrderedDict",
            "torch.BFloat16Storage",
            "torch.FloatStorage",
            "torch.HalfStorage",
            "torch.LongStorage",
            "torch.NewStorage",
            "torch._utils._rebuild_tensor_v2",
        ]
    );
}

#[test]
fn a_training_checkpoint_is_flattened_and_its_scalars_kept() {
    let inner = Writer::default().raw(b"}(").text("model.w").tensor("FloatStorage", "0", &[2]).raw(b"u");
    let bytes = Writer::new()
        .raw(b"}(")
        .text("epoch")
        .int(7)
        .text("sd_checkpoint_name")
        .text("v1-5")
        .text("done")
        .raw(b"\x88")
        .text("rate")
        .raw(b"G\x3f\xe0\0\0\0\0\0\0")
        .text("nothing")
        .raw(b"N")
        .text("string_to_token")
        .raw(b"}")
        .text("*")
        .int(265)
        .raw(b"s")
        .text("string_to_param")
        .raw(b"}")
        .text("*")
        .tensor("FloatStorage", "1", &[8, 768])
        .raw(b"s")
        .text("state_dict")
        .raw(&inner.bytes)
        .text("rows")
        .raw(b"](")
        .tensor("ByteStorage", "2", &[1])
        .tensor("ByteStorage", "3", &[2])
        .raw(b"e")
        .int(320)
        .raw(b"(")
        .tensor("FloatStorage", "4", &[3])
        .raw(b"t")
        .raw(b"u")
        .stop();
    assert_eq!(
        tensors(&bytes),
        [
            "string_to_param.* F32 [8, 768]",
            "state_dict.model.w F32 [2]",
            "rows.0 U8 [1]",
            "rows.1 U8 [2]",
            "320.0 F32 [3]"
        ]
    );
    let expected = [
        ("epoch", "7"),
        ("sd_checkpoint_name", "v1-5"),
        ("done", "true"),
        ("rate", "0.5"),
        ("string_to_token.*", "265"),
    ];
    let expected: Vec<_> = expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    assert_eq!(metadata(&bytes), expected);
}

/// A call of `torch._utils.<name>` or another module's function with the arguments between a mark and `t`.
fn call(module: &str, name: &str, arguments: Writer) -> Vec<u8> {
    Writer::new().global(module, name).raw(b"(").raw(&arguments.bytes).raw(b"tR").stop()
}

#[test]
fn every_way_of_rebuilding_a_stored_tensor_is_known() {
    let stored = |class: &str| Writer::default().storage(class, "0", 6).int(0).lengths(&[2, 3]).lengths(&[3, 1]);
    let with_hooks = |class: &str| stored(class).raw(b"\x89N");
    let float = Writer::default().tensor("FloatStorage", "0", &[2, 3]);
    let typed = with_hooks("UntypedStorage").global("torch", "float8_e4m3fn");
    let inner = Writer::default().raw(b"(").raw(&with_hooks("IntStorage").bytes).raw(b"t}");
    let function = Writer::default().global("torch._utils", "_rebuild_tensor_v2").global("torch", "Tensor");
    let cases = [
        (call("torch._utils", "_rebuild_tensor", stored("DoubleStorage")), "F64"),
        (call("torch._utils", "_rebuild_tensor_v2", with_hooks("BoolStorage")), "BOOL"),
        (call("torch._utils", "_rebuild_tensor_v2", with_hooks("UntypedStorage")), "RAW"),
        (call("torch._utils", "_rebuild_tensor_v3", typed), "F8_E4M3"),
        (call("torch._utils", "_rebuild_qtensor", with_hooks("QInt8Storage")), "QI8"),
        (call("torch._utils", "_rebuild_parameter", float.clone().raw(b"\x88N")), "F32"),
        (call("torch._utils", "_rebuild_parameter_with_state", float.clone().raw(b"\x88N}")), "F32"),
        (call("torch.nn.parameter", "Parameter", float), "F32"),
        (call("torch._tensor", "_rebuild_from_type_v2", function.raw(&inner.bytes)), "I32"),
    ];
    for (bytes, dtype) in cases {
        assert_eq!(tensors(&bytes), [format!("tensor {dtype} [2, 3]")]);
    }
}

#[test]
fn tensors_without_a_storage_of_their_own_are_known() {
    let float = Writer::default().tensor("FloatStorage", "0", &[2, 3]).bytes;
    let half = Writer::default().tensor("HalfStorage", "0", &[5]).bytes;
    let sparse = Writer::default().text("layout").raw(b"(").raw(&float).raw(&half).lengths(&[9, 9]).raw(b"t");
    let meta = Writer::default().global("torch", "bfloat16").lengths(&[4]).lengths(&[1]).raw(b"\x89");
    let wrapper = Writer::default().global("torch", "Tensor").global("torch", "float32").lengths(&[4, 1]);
    let cases = [
        (call("torch._utils", "_rebuild_sparse_tensor", sparse), "tensor F16 [9, 9]"),
        (call("torch._utils", "_rebuild_meta_tensor_no_storage", meta), "tensor BF16 [4]"),
        (call("torch._utils", "_rebuild_wrapper_subclass", wrapper), "tensor F32 [4, 1]"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(tensors(&bytes), [expected]);
    }
}

#[test]
fn numpy_arrays_are_tensors() {
    let array = Writer::new().raw(b"}").text("mean").global("numpy.core.multiarray", "_reconstruct");
    let array = array.raw(b"(").global("numpy", "ndarray").lengths(&[0]).raw(b"C\x01btR");
    let state = array.raw(b"(K\x01").lengths(&[3, 2]).global("numpy", "dtype").raw(b"(").text("<f4");
    let bytes = state.raw(b"\x89\x88tR\x89C\x00tbs").stop();
    assert_eq!(tensors(&bytes), ["mean F32 [3, 2]"]);
}

#[test]
fn whole_modules_are_walked_and_other_objects_are_not() {
    let module = |module: &str, name: &str, state: Writer| {
        Writer::default().global(module, name).raw(b")\x81").raw(&state.bytes).raw(b"b")
    };
    let tensor = Writer::default().tensor("FloatStorage", "0", &[2]);
    let leaf_state = Writer::default().raw(b"}(").text("training").raw(b"\x89").text("_parameters").raw(b"}");
    let leaf_state = leaf_state.text("weight").raw(&tensor.bytes).raw(b"s").text("_buffers").raw(b"}");
    let leaf_state = leaf_state.text("mean").raw(&tensor.bytes).raw(b"su");
    let leaf = module("torch.nn.modules.conv", "Conv2d", leaf_state);
    let outer_state = Writer::default().raw(b"}").text("_modules").raw(b"}").text("conv").raw(&leaf.bytes).raw(b"ss");
    let outer = module("ultralytics.nn.tasks", "DetectionModel", outer_state);
    let script_state = Writer::default().raw(b"}").text("w").raw(&tensor.bytes).raw(b"s");
    let script = module("__torch__.net", "Net", script_state.clone());
    let opaque = module("project", "Trainer", script_state);
    let bytes = Writer::new().raw(b"}(").text("model").raw(&outer.bytes).text("script").raw(&script.bytes);
    let bytes = bytes.text("trainer").raw(&opaque.bytes).raw(b"u").stop();
    assert_eq!(tensors(&bytes), ["model.conv.weight F32 [2]", "model.conv.mean F32 [2]", "script.w F32 [2]"]);
    let imports = read(&bytes).expect("a pickle").imports;
    assert!(imports.contains(&"ultralytics.nn.tasks.DetectionModel".to_owned()), "{imports:?}");
}

/// The values of every opcode that makes one, as the scalars of a dict.
#[test]
fn every_opcode_gives_its_value() {
    let cases: &[(&[u8], &str)] = &[
        (b"K\xff", "255"),
        (b"M\xff\xff", "65535"),
        (b"J\xff\xff\xff\xff", "-1"),
        (b"I42\n", "42"),
        (b"I01\n", "true"),
        (b"I00\n", "false"),
        (b"L-7L\n", "-7"),
        (b"\x8a\x00", "0"),
        (b"\x8a\x01\x80", "-128"),
        (b"\x8a\x02\x80\x00", "128"),
        (b"\x8b\x02\x00\x00\x00\x00\x01", "256"),
        (b"F1.5\n", "1.5"),
        (b"G\xbf\xf0\0\0\0\0\0\0", "-1"),
        (b"\x88", "true"),
        (b"\x89", "false"),
        (b"X\x02\0\0\0\xc3\xa9", "é"),
        (b"\x8c\x02\xc3\xa9", "é"),
        (b"\x8d\x02\0\0\0\0\0\0\0\xc3\xa9", "é"),
        (b"X\x02\0\0\0a\xff", "a\u{fffd}"),
        (b"V\\u006fs\\U0001f600\xe9\n", "os\u{1f600}é"),
        (b"U\x02ab", "ab"),
        (b"T\x02\0\0\0ab", "ab"),
        (b"S'a\\'\\x62\\143\\n'\n", "a'bc\n"),
        (b"K\x01p5\n0g5\n", "1"),
        (b"K\x01q\x050h\x05", "1"),
        (b"K\x01r\x05\0\0\x000j\x05\0\0\0", "1"),
        (b"K\x01\x940h\x00", "1"),
        (b"K\x01K\x020", "1"),
        (b"K\x01(K\x02K\x031", "1"),
        (b"K\x01(0", "1"),
        (b"K\x012K\x0200", "1"),
        (b"\x95\x09\0\0\0\0\0\0\0K\x01", "1"),
        (b"K\x01\x98", "1"),
        (b"ctorch\nfloat16\n", "F16"),
        (b"\x8c\x05torch\x8c\x05int64\x93", "I64"),
    ];
    for (opcodes, expected) in cases {
        let bytes = Writer::new().raw(b"}").text("k").raw(opcodes).raw(b"s").stop();
        assert_eq!(metadata(&bytes), [("k".to_owned(), (*expected).to_owned())], "{opcodes:?}");
    }
}

#[test]
fn an_opcode_without_a_scalar_leaves_none() {
    let without_value: &[&[u8]] = &[
        b"N",
        b"\x8a\x09123456789",
        b"C\x02ab",
        b"B\x02\0\0\0ab",
        b"\x8e\x02\0\0\0\0\0\0\0ab",
        b"\x96\x01\0\0\0\0\0\0\0a",
        b"\x97",
        b"\x8f(K\x01\x90",
        b"(K\x01\x91",
        b"Pid\n",
        b"K\x01Q",
        b"Ix\n",
        b")",
        b"K\x01\x85",
        b"(K\x01l",
        b"K\x01K\x02K\x03\x87",
        b"cos\nsystem\n)\x81",
        b"cos\nsystem\n)}\x92",
        b"(K\x01ios\nsystem\n",
        b"(cos\nsystem\nK\x01o",
        b"\x82\x01",
        b"\x83\x01\0",
        b"\x84\x01\0\0\0",
    ];
    for opcodes in without_value {
        let bytes = Writer::new().raw(b"}").text("k").raw(opcodes).raw(b"s").stop();
        assert_eq!(metadata(&bytes), [], "{opcodes:?}");
    }
}

#[test]
fn every_kind_of_import_is_reported() {
    let cases: &[(&[u8], &[&str])] = &[
        (b"cos\nsystem\n", &["os.system"]),
        (b"\x8c\x02os\x8c\x06system\x93", &["os.system"]),
        (b"V\\u006f\\u0073\nVsystem\n\x93", &["os.system"]),
        (b"S'\\x6fs'\nS'system'\n\x93", &["os.system"]),
        (b"(K\x01ios\nsystem\n", &["os.system"]),
        (b"NK\x01\x93", &["?.?"]),
        (b"\x82\x07", &["copyreg.extension_7"]),
        (b"cos\nsystem\ncos\nsystem\ncbuiltins\neval\n", &["builtins.eval", "os.system"]),
        // Behind a value that is thrown away, and before the end is reached.
        (b"cposix\nsystem\nX\x02\0\0\0idR0N", &["posix.system"]),
    ];
    for (opcodes, expected) in cases {
        let header = read(&Writer::new().raw(opcodes).stop()).expect("a pickle");
        assert_eq!(header.imports, *expected);
    }
}

#[test]
fn the_first_of_equal_names_counts() {
    let two = Writer::new().raw(b"}(").int(1).tensor("FloatStorage", "0", &[1]).text("1");
    let bytes = two.tensor("HalfStorage", "1", &[2]).raw(b"u").stop();
    assert_eq!(tensors(&bytes), ["1 F32 [1]"]);
}

#[test]
fn what_is_nested_too_deep_is_left_out_with_a_note() {
    let depth = 500;
    let bytes =
        Writer::new().raw(&b"]".repeat(depth)).tensor("FloatStorage", "0", &[1]).raw(&b"a".repeat(depth)).stop();
    let header = read(&bytes).expect("a pickle");
    assert_eq!(header.tensors, []);
    assert_eq!(header.metadata.len(), 1);
    assert_eq!(header.metadata[0].0, NOTE_KEY);
}
