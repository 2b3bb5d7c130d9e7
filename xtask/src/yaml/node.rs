//! A YAML document as a tree whose every part knows its place.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Where something stands: which of several files, and line and column from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Position among the files that are read together.
    pub(crate) file: u64,
    /// Line.
    pub(crate) line: u64,
    /// Column.
    pub(crate) column: u64,
}

/// A value and its place. [`read_all`](super::read_all) fills it in; no other reader does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename = "$placed")]
pub(crate) struct Placed<T> {
    file: u64,
    line: u64,
    column: u64,
    /// The value.
    pub(crate) value: T,
}

/// The name under which the reader knows [`Placed`].
pub(super) const PLACED: &str = "$placed";

impl<T> Placed<T> {
    /// The place.
    pub(crate) fn at(&self) -> Place {
        Place { file: self.file, line: self.line, column: self.column }
    }
}

/// A part of a document.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where it begins.
    pub(super) at: Place,
    pub(super) value: Value,
}

/// What a [`Node`] is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// Keys with their places, and the keys that were taken out since they are wrong.
    Map(Vec<(Placed<String>, Node)>, Vec<String>),
}

impl Node {
    /// Reads a document; `file` is its position among those that are read together.
    pub(super) fn parse(file: u64, name: &str, text: &str) -> Result<Self, super::Mistake> {
        let tree: Spanned<Tree> = super::from_yaml(name, text)?;
        Ok(tree.value.placed(file, &tree.referenced))
    }
}

/// What serde gives, before the file's number is added.
enum Tree {
    One(Value),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl Tree {
    fn placed(self, file: u64, location: &serde_saphyr::Location) -> Node {
        let at = Place { file, line: location.line(), column: location.column() };
        let node = |it: Spanned<Self>| it.value.placed(file, &it.referenced);
        let value = match self {
            Self::One(value) => value,
            Self::List(items) => Value::List(items.into_iter().map(node).collect()),
            Self::Map(entries) => {
                let entries = entries.into_iter().map(|(key, value)| {
                    let (line, column) = (key.referenced.line(), key.referenced.column());
                    (Placed { file, line, column, value: key.value }, node(value))
                });
                Value::Map(entries.collect(), Vec::new())
            }
        };
        Node { at, value }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::One(Value::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::One(Value::Bool(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::One(Value::Signed(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::One(Value::Unsigned(value)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::One(Value::Float(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::One(Value::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Tree::Map(map))
    }
}
