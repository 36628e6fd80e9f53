//! `nvonnxparser::IParser`: an ONNX model becomes a network.

use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;

use serde::Serialize;

use super::abi::{Method, calls};
use super::network::Network;
use super::object::{Object, Owned, text_at};
use crate::error::{Error, Result};

/// `NV_ONNX_PARSER_VERSION`, 0.1.0 in the headers of every supported version.
const PARSER_INTERFACE: c_int = 100;

/// One thing that the parser has against a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParserProblem {
    /// Number of the kind of problem (`nvonnxparser::ErrorCode`).
    pub code: i32,
    /// What the parser says.
    pub description: String,
    /// Index of the node in the model, if it is about one.
    pub node: Option<u32>,
    /// Name of the node; from TensorRT 10 on.
    pub node_name: Option<String>,
    /// Operator of the node; from TensorRT 10 on.
    pub operator: Option<String>,
}

impl fmt::Display for ParserProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = self.node {
            write!(f, "node {node}")?;
            for part in [&self.node_name, &self.operator].into_iter().flatten() {
                write!(f, " {part}")?;
            }
            f.write_str(": ")?;
        }
        write!(f, "{} (code {})", self.description, self.code)
    }
}

/// Fills an empty network with an ONNX model. `path` is where the model lies, for weights in files beside it.
///
/// # Errors
/// [`Error::Onnx`] with every problem that the parser found, [`Error::NetworkIsFilled`] where the network has a model,
/// or why there is no parser.
#[doc(alias = "createNvOnnxParser_INTERNAL")]
#[doc(alias = "IParser")]
pub fn parse_onnx(network: &mut Network, model: &[u8], path: Option<&Path>) -> Result<()> {
    if network.is_filled() {
        return Err(Error::NetworkIsFilled);
    }
    let parser = create(network)?;
    let path = path.map(c_path).transpose()?;
    let path = path.as_ref().map_or(ptr::null(), |path| path.as_ptr());
    let (is_parsed, said) = parser.listen(|parser| {
        // SAFETY: parser, model and path live, and the parser stays on this thread.
        unsafe { calls::parser::parse(parser, model.as_ptr(), model.len(), path) }
    })?;
    let problems = problems(parser.object())?;
    // Kept also where it failed: layers that it made may point to its weights.
    network.keep(parser);
    if is_parsed { Ok(()) } else { Err(Error::Onnx { problems, said: said.into_reason() }) }
}

fn create(network: &Network) -> Result<Owned> {
    type Create = unsafe extern "C" fn(*mut c_void, *mut c_void, c_int) -> *mut c_void;
    let session = network.owned().session();
    // SAFETY: `void* createNvOnnxParser_INTERNAL(void*, void*, int)` in NvOnnxParser.h of every version.
    let create: Create = unsafe { session.parser()?.function("createNvOnnxParser_INTERNAL") }?;
    // SAFETY: NVIDIA gives the caller a new `IParser`; network and logger live.
    let parser = unsafe {
        network.owned().make("create an ONNX parser", |network| {
            Ok(create(network.as_ptr(), session.logger(), PARSER_INTERFACE))
        })
    }?;
    parser.with_destructor(&calls::parser::DELETE)
}

fn c_path(path: &Path) -> Result<CString> {
    let zero = |_| Error::ZeroInText { text: path.display().to_string() };
    CString::new(path.as_os_str().as_bytes()).map_err(zero)
}

fn problems(parser: Object) -> Result<Vec<ParserProblem>> {
    // SAFETY: the parser lives and stays on this thread, here and below.
    let count = unsafe { calls::parser::error_count(parser) }?;
    let mut problems = Vec::new();
    for index in 0..count {
        // SAFETY: see above.
        let error = unsafe { calls::parser::error(parser, index) }?;
        if let Some(error) = Object::new(error, parser.abi()) {
            problems.push(read_problem(error)?);
        }
    }
    Ok(problems)
}

fn read_problem(error: Object) -> Result<ParserProblem> {
    // SAFETY: the error lives as long as its parser is not used, here and below.
    let code = unsafe { calls::parser_error::code(error) }?;
    // SAFETY: see above.
    let description = unsafe { calls::parser_error::description(error) }?;
    // SAFETY: see above.
    let node = unsafe { calls::parser_error::node(error) }?;
    // SAFETY: the parser gives null or a text that lives as long as the error.
    let description = unsafe { text_at(description) }.unwrap_or_default();
    Ok(ParserProblem {
        code,
        description: description.trim_end().to_owned(),
        node: u32::try_from(node).ok(),
        node_name: text_since_10(error, &calls::parser_error::NODE_NAME, calls::parser_error::node_name),
        operator: text_since_10(
            error,
            &calls::parser_error::NODE_OPERATOR,
            calls::parser_error::node_operator,
        ),
    })
}

/// A text that errors have from TensorRT 10 on; empty ones say nothing.
fn text_since_10(
    error: Object,
    method: &Method,
    read: unsafe fn(Object) -> Result<*const c_char>,
) -> Option<String> {
    if !error.abi().has(method) {
        return None;
    }
    // SAFETY: the error lives as long as its parser is not used, and `read` calls `method` of it.
    let text = unsafe { read(error) }.ok()?;
    // SAFETY: the parser gives null or a text that lives as long as the error.
    unsafe { text_at(text) }.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_its_node_where_it_has_one() {
        let mut problem = ParserProblem {
            code: 8,
            description: "no importer".into(),
            node: Some(3),
            node_name: Some("head/act".into()),
            operator: Some("Celu".into()),
        };
        assert_eq!(problem.to_string(), "node 3 head/act Celu: no importer (code 8)");
        problem.node = None;
        assert_eq!(problem.to_string(), "no importer (code 8)");
    }
}
