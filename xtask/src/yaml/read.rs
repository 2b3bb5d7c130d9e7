//! From a tree to a type, with all mistakes at once.
//!
//! serde stops at the first mistake. So the part that is wrong is taken out of the tree and the
//! rest is read again, until it reads; what is only a consequence of a removal is not told.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::node::{PLACED, Place, Value};
use super::{Mistake, Node, missing, unknown};

/// Mistakes of one file that are told at once; a file with more has another problem.
const MOST: usize = 50;

/// Reads the text of a yml file; `number` is its position among those that are read together.
///
/// With mistakes, the value is what the file says without its wrong parts, if that says anything.
pub(crate) fn read_all<T: DeserializeOwned>(
    number: u64,
    file: &str,
    text: &str,
) -> (Option<T>, Vec<Mistake>) {
    let mut tree = match Node::parse(number, file, text) {
        Ok(tree) => tree,
        Err(mistake) => return (None, vec![mistake]),
    };
    let mut mistakes = Vec::new();
    loop {
        let error = match T::deserialize(&tree) {
            Ok(value) => return (Some(value), mistakes),
            Err(error) => error,
        };
        let is_new = tree.remove(&error);
        if let Some(at) = error.at.filter(|_| is_new) {
            let place = Some((at.line, at.column));
            mistakes.push(Mistake { file: file.to_owned(), place, message: error.message });
        }
        if error.way.is_empty() || mistakes.len() == MOST {
            return (None, mistakes);
        }
    }
}

impl Node {
    /// Takes out the part that an error is about; false if it follows from an earlier removal.
    fn remove(&mut self, error: &Mismatch) -> bool {
        let mut node = self;
        // The way was collected from the inside out.
        let mut way = error.way.iter().rev().copied().peekable();
        while let Some(index) = way.next() {
            let is_last = way.peek().is_none();
            match &mut node.value {
                Value::List(items) if is_last => {
                    let item = items.remove(index);
                    return !item.has_lost(error.missing);
                }
                Value::Map(entries, lost) if is_last => {
                    let (key, value) = entries.remove(index);
                    lost.push(key.value);
                    return !value.has_lost(error.missing);
                }
                Value::List(items) => node = &mut items[index],
                Value::Map(entries, _) => node = &mut entries[index].1,
                _ => return true,
            }
        }
        !node.has_lost(error.missing)
    }

    fn has_lost(&self, key: Option<&str>) -> bool {
        let Value::Map(_, lost) = &self.value else { return false };
        key.is_some_and(|key| lost.iter().any(|it| it == key))
    }
}

/// Why a tree is not of a type, and where.
#[derive(Debug)]
pub(super) struct Mismatch {
    at: Option<Place>,
    /// Positions in lists and maps, from the inside out.
    way: Vec<usize>,
    message: String,
    /// The key that is not there.
    missing: Option<&'static str>,
}

impl Mismatch {
    fn new(message: String) -> Self {
        Self { at: None, way: Vec::new(), message, missing: None }
    }

    fn at(mut self, place: Place) -> Self {
        self.at.get_or_insert(place);
        self
    }

    fn through(mut self, index: usize) -> Self {
        self.way.push(index);
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        let is_text = expected.contains("string");
        let found = match found {
            Unexpected::Unit => "nothing".to_owned(),
            Unexpected::Str(text) => format!("the text `{text}`"),
            Unexpected::Bool(word) if is_text => format!("the bare word {word}; put it in quotes"),
            // The number may have lost the form in which it was written, as in 0644.
            Unexpected::Signed(_) | Unexpected::Unsigned(_) | Unexpected::Float(_) if is_text => {
                "a number; put it in quotes".to_owned()
            }
            other => other.to_string(),
        };
        let expected = match expected.as_str() {
            it if it.starts_with("struct ") => "keys with values",
            "a sequence" => "a list",
            "a map" => "keys with values",
            "a boolean" => "true or false",
            other => other,
        };
        Self::new(format!("expected {expected}, found {found}"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(unknown("key", field, expected))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(unknown("word", variant, expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: Some(field), ..Self::new(missing(field)) }
    }
}

impl<'de> Deserializer<'de> for &Node {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        let found = match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Signed(value) => visitor.visit_i64(*value),
            Value::Unsigned(value) => visitor.visit_u64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(value) => visitor.visit_str(value),
            Value::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            Value::Map(entries, _) => visitor.visit_map(Entries { entries, next: 0 }),
        };
        found.map_err(|error| error.at(self.at))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        // A key without a value is a mistake, as in LinuxKit's schema.
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self).map_err(|error| error.at(self.at))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match &self.value {
            _ if name == PLACED => visitor.visit_seq(Parts { node: self, next: 0 }),
            // serde would take a list for the fields in their order.
            Value::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor))
                .map_err(|error: Mismatch| error.at(self.at)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let found = match &self.value {
            Value::Text(text) => {
                visitor.visit_enum(IntoDeserializer::<Mismatch>::into_deserializer(text.as_str()))
            }
            _ => Err(Mismatch::new("expected one word".to_owned())),
        };
        found.map_err(|error| error.at(self.at))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a> {
    items: &'a [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mismatch> {
        let Some(item) = self.items.get(self.next) else { return Ok(None) };
        self.next += 1;
        let through = |error: Mismatch| error.at(item.at).through(self.next - 1);
        seed.deserialize(item).map(Some).map_err(through)
    }
}

struct Entries<'a> {
    entries: &'a [(super::Placed<String>, Node)],
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Mismatch> {
        let Some((key, _)) = self.entries.get(self.next) else { return Ok(None) };
        let text: StrDeserializer<'_, Mismatch> = key.value.as_str().into_deserializer();
        let through = |error: Mismatch| error.at(key.at()).through(self.next);
        seed.deserialize(text).map(Some).map_err(through)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Mismatch> {
        let (_, value) = &self.entries[self.next];
        self.next += 1;
        let through = |error: Mismatch| error.at(value.at).through(self.next - 1);
        seed.deserialize(value).map_err(through)
    }
}

/// The fields of a [`Placed`](super::Placed).
struct Parts<'a> {
    node: &'a Node,
    next: usize,
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mismatch> {
        let at = self.node.at;
        self.next += 1;
        let number = match self.next {
            1 => at.file,
            2 => at.line,
            3 => at.column,
            _ => return seed.deserialize(self.node).map(Some),
        };
        seed.deserialize(number.into_deserializer()).map(Some)
    }
}

#[cfg(test)]
mod tests;
