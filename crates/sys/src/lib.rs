//! The only unsafe code and the only platform switches: mounts, namespaces, identity, clone, durable publish.
