[
  inputs: ["{mix,.formatter}.exs", "{lib,test,config}/**/*.{ex,exs}", "{native,bin,bench}/*.exs"]
]
