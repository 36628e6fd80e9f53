//! The full TensorRT, where somebody put one into `.tensorrt/full`: it is too large to be fetched for every test run.

mod libraries;

use std::fs;

use thalweg_nvidia::tensorrt::{Flavour, parse_onnx};

use libraries::{open, root};

#[test]
#[ignore = "needs a full TensorRT in .tensorrt/full"]
fn it_opens_and_either_builds_or_says_why_not() {
    let Some((tensorrt, lines)) = open(Flavour::Full, "full") else { return };
    eprintln!("{} {:?} from {}", tensorrt.version(), tensorrt.family(), tensorrt.path().display());
    eprintln!("parser: {:?}", tensorrt.check_parser());
    eprintln!("runtime: {:?}", tensorrt.runtime().err().map(|e| e.to_string()));
    match tensorrt.builder() {
        Err(error) => eprintln!("builder: {error}"),
        Ok(builder) => {
            let mut network = builder.create_network().unwrap();
            let model = fs::read(root().join("models/ppocr_cls.onnx")).unwrap();
            eprintln!("parse: {:?}", parse_onnx(&mut network, &model, None).err().map(|e| e.to_string()));
            eprintln!("{:?} {:?} {:?}", network.inputs(), network.outputs(), network.layer_count());
        }
    }
    for (severity, line) in lines.lock().unwrap().iter() {
        eprintln!("{severity:?} {line}");
    }
}
