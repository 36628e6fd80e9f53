//! Reading a node's attributes by name. Missing ones are `None`; the operator's rule knows the default.

use super::proto::{AttributeProto, NodeProto, TensorProto};

impl NodeProto {
    /// The attribute of this name.
    pub(crate) fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|attribute| attribute.name() == name)
    }

    /// An integer.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name)?.i
    }

    /// A list of integers; `None` where it is missing, empty where it is there and empty.
    pub(crate) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|attribute| attribute.ints.as_slice())
    }

    /// A string, `None` also where it is not UTF-8.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.attribute(name)?.s.as_ref()?).ok()
    }

    /// A tensor.
    pub(crate) fn tensor(&self, name: &str) -> Option<&TensorProto> {
        self.attribute(name)?.t.as_ref()
    }

    /// The node's name, or else its operator and first output, which is as unique.
    pub(crate) fn label(&self) -> String {
        match (self.name(), self.output.first()) {
            ("", Some(output)) => format!("{} -> {output}", self.op_type()),
            ("", None) => self.op_type().to_owned(),
            (name, _) => name.to_owned(),
        }
    }
}
