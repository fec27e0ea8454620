[
  inputs: [
    "{mix,.formatter}.exs",
    "{lib,test,config}/**/*.{ex,exs}",
    "{native,bin,bench}/*.exs",
    "examples/{classify,nx_serving,plug_endpoint,search}.exs"
  ]
]
