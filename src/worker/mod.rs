//! One ring per core: accepts, performs the actions of the machines, keeps upstream connections.
