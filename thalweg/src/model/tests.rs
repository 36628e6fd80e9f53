use super::sketch::Sketch;
use super::*;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("thalweg-model-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn sketch() -> Sketch {
    Sketch::new()
        .input("x", "batch,4")
        .weights("w", &[4, 2])
        .node("y = MatMul(x, w)", &[])
        .declared_output("y", "batch,2")
}

#[test]
fn a_written_model_is_read_back_as_it_was() {
    let folder = folder("round-trip");
    let path = folder.join("small.onnx");
    sketch().model().write(&path).unwrap();
    let model = Model::read(&path).unwrap();
    assert_eq!(model.name(), "small");
    assert_eq!(model.graph(), &sketch().graph);
    assert_eq!(model.encode(), fs::read(&path).unwrap());
    assert_eq!(model.opsets(), [("ai.onnx".to_owned(), 17)]);
    assert_eq!(model.inputs()[0].to_string(), "x f32 [batch, 4]");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no temporary file is left");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn initializers_are_no_inputs_even_where_old_files_list_them() {
    let model = sketch().input("w", "4,2").model();
    assert_eq!(model.inputs().iter().map(|input| input.name.as_str()).collect::<Vec<_>>(), ["x"]);
}

#[test]
fn the_hash_follows_every_byte_also_of_external_data() {
    let folder = folder("hash");
    let mut proto = sketch().proto();
    let tensor = &mut proto.graph.as_mut().unwrap().initializer[0];
    tensor.float_data.clear();
    tensor.data_location = Some(proto::tensor_proto::DataLocation::External as i32);
    let location = proto::StringStringEntryProto { key: Some("location".into()), value: Some("data".into()) };
    tensor.external_data = vec![location];
    let hash = |data: [u8; 32]| {
        fs::write(folder.join("data"), data).unwrap();
        Model::from_proto(proto.clone(), folder.join("m.onnx")).unwrap().content_hash().unwrap()
    };
    let (zeros, ones) = (hash([0; 32]), hash([1; 32]));
    assert_eq!(zeros.len(), 64);
    assert_ne!(zeros, ones);
    assert_eq!(zeros, hash([0; 32]));
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_model_with_external_data_is_embedded_when_it_moves() {
    let (from, to) = (folder("embed-from"), folder("embed-to"));
    let mut proto = sketch().proto();
    let tensor = &mut proto.graph.as_mut().unwrap().initializer[0];
    tensor.float_data.clear();
    tensor.data_location = Some(proto::tensor_proto::DataLocation::External as i32);
    let location = proto::StringStringEntryProto { key: Some("location".into()), value: Some("data".into()) };
    tensor.external_data = vec![location];
    fs::write(from.join("data"), [7; 32]).unwrap();
    let model = Model::from_proto(proto, from.join("m.onnx")).unwrap();
    assert!(model.has_external_data());
    model.write(to.join("m.onnx")).unwrap();
    let moved = Model::read(to.join("m.onnx")).unwrap();
    assert!(!moved.has_external_data());
    assert_eq!(moved.tensor_data(&moved.graph().initializer[0]).unwrap(), [7; 32].as_slice());
    fs::remove_dir_all(&from).unwrap();
    fs::remove_dir_all(&to).unwrap();
}

#[test]
#[ignore = "writes 2.2 GB"]
fn files_above_two_gigabytes_are_read() {
    const COUNT: usize = 2_200_000_000;
    let folder = folder("large");
    let path = folder.join("large.onnx");
    let mut sketch = Sketch::new().input("x", "1").node("y = Cast(w)", &[]).output("y");
    sketch.graph.initializer.push(proto::TensorProto {
        name: Some("w".into()),
        dims: vec![i64::try_from(COUNT).unwrap()],
        data_type: Some(proto::tensor_proto::DataType::Uint8 as i32),
        raw_data: Some(vec![5; COUNT].into()),
        ..Default::default()
    });
    sketch.model().write(&path).unwrap();
    let model = Model::read(&path).unwrap();
    let data = model.tensor_data(&model.graph().initializer[0]).unwrap();
    assert_eq!((data.len(), data[COUNT - 1]), (COUNT, 5));
    fs::remove_dir_all(&folder).unwrap();
}
