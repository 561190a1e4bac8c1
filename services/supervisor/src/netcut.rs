//! The place of the network cut: between the step that installs dependencies and the one that runs the
//! package's own code, the supervisor will ask its builder to disconnect the container and go on when
//! only loopback is left. Until then all steps run connected, and the report claims nothing else.
