/*!
Nothing: this package is for `tests/`, which drive the whole of Warmpath through
a real Envoy.

A package of its own, so that the libraries' tests need neither Envoy nor the
wasm target, and an end-to-end test can depend on everything.
*/
