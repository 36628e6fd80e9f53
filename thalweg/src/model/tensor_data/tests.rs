use super::super::proto::StringStringEntryProto;
use super::*;

fn tensor(data_type: OnnxDataType, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: Some("t".into()),
        dims: dims.to_vec(),
        data_type: Some(data_type as i32),
        ..Default::default()
    }
}

fn external(entries: &[(&str, &str)]) -> TensorProto {
    let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
        key: Some((*key).into()),
        value: Some((*value).into()),
    };
    TensorProto {
        data_location: Some(DataLocation::External as i32),
        external_data: entries.iter().map(entry).collect(),
        ..tensor(OnnxDataType::Uint8, &[4])
    }
}

/// A folder with a file `weights` of the bytes 0 to 9.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("thalweg-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("weights"), (0..10).collect::<Vec<u8>>()).unwrap();
    folder
}

fn read(tensor: &TensorProto) -> Result<Bytes> {
    ExternalFiles::in_folder(PathBuf::from("nowhere")).tensor_data(tensor)
}

#[test]
fn raw_bytes_are_not_copied() {
    let raw = Bytes::from(vec![1, 2, 3, 4]);
    let tensor = TensorProto { raw_data: Some(raw.clone()), ..tensor(OnnxDataType::Float, &[1]) };
    assert_eq!(read(&tensor).unwrap().as_ptr(), raw.as_ptr());
}

#[test]
fn typed_fields_become_little_endian_bytes() {
    let halves = TensorProto { int32_data: vec![0x3c00, 0x4000], ..tensor(OnnxDataType::Float16, &[2]) };
    assert_eq!(read(&halves).unwrap(), [0x00, 0x3c, 0x00, 0x40].as_slice());
    let small = TensorProto { int32_data: vec![-1, 2], ..tensor(OnnxDataType::Int8, &[2]) };
    assert_eq!(read(&small).unwrap(), [0xff, 2].as_slice());
    let unsigned = TensorProto { uint64_data: vec![7], ..tensor(OnnxDataType::Uint32, &[1]) };
    assert_eq!(read(&unsigned).unwrap(), [7, 0, 0, 0].as_slice());
    let packed = TensorProto { int32_data: vec![0x21, 0x03], ..tensor(OnnxDataType::Int4, &[3]) };
    assert_eq!(read(&packed).unwrap(), [0x21, 0x03].as_slice());
}

#[test]
fn an_empty_tensor_has_no_bytes() {
    assert_eq!(read(&tensor(OnnxDataType::Float, &[0, 5])).unwrap(), Bytes::new());
}

#[test]
fn external_data_is_a_slice_of_a_file_that_is_read_once() {
    let folder = folder("read-once");
    let files = ExternalFiles::in_folder(folder.clone());
    let tensor = external(&[("location", "weights"), ("offset", "2"), ("length", "4")]);
    assert_eq!(files.tensor_data(&tensor).unwrap(), [2, 3, 4, 5].as_slice());
    fs::remove_dir_all(&folder).unwrap();
    let from_start = external(&[("location", "weights")]);
    assert_eq!(files.tensor_data(&from_start).unwrap(), [0, 1, 2, 3].as_slice());
}

#[test]
fn external_data_stays_in_the_models_folder_and_inside_its_file() {
    let folder = folder("stays");
    let files = ExternalFiles::in_folder(folder.join("below"));
    let error = |entries: &[(&str, &str)]| files.tensor_data(&external(entries)).unwrap_err().to_string();
    for location in ["../weights", "/etc/passwd", "a/../../weights", ""] {
        let message = error(&[("location", location)]);
        assert!(message.contains("in the model's folder"), "{location}: {message}");
    }
    let files = ExternalFiles::in_folder(folder.clone());
    let error = |entries: &[(&str, &str)]| files.tensor_data(&external(entries)).unwrap_err().to_string();
    assert!(
        error(&[("location", "weights"), ("offset", "8")])
            .contains("it has 10 bytes, needed are 4 from 8 on")
    );
    let beyond = usize::MAX.to_string();
    assert!(error(&[("location", "weights"), ("offset", &beyond)]).contains("it has 10 bytes"));
    assert!(error(&[("location", "weights"), ("length", "5")]).contains("take 4 bytes, but 5 are declared"));
    assert!(error(&[("location", "weights"), ("length", "-1")]).contains("no number"));
    assert!(error(&[("location", "missing")]).contains("`t` keeps its data in"));
    fs::remove_dir_all(&folder).unwrap();
}
