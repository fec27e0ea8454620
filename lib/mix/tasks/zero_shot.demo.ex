defmodule Mix.Tasks.ZeroShot.Demo do
  @shortdoc "Serves a page to try labels on pictures"

  @moduledoc """
  Serves a page on this machine where you try labels on pictures.

      $ mix zero_shot.demo --repo embedded
      $ mix zero_shot.demo --pictures ~/Pictures --labels "a dog, a cat, a car"

  Open the address that it prints. Drop, paste, choose or photograph a picture, and type labels: the bars move
  while you type. Point at a label, or press it, to see which part of the picture speaks for it and against it, as
  `Image.ZeroShot.explain/3` says. The page sets the template and an answer "none of these", and searches a strip of
  pictures by words or by the picture you look at. Its foot says how long each step took.

  Without `--pictures`, the strip holds the samples that come with the library.

  ## Flags

    * `--port N` - the port. Defaults to 4848; 0 is any that is free
    * `--pictures DIR` - the pictures of the strip: a folder with all folders in it. Their index is kept in the
      folder, as by `mix zero_shot.search`; pictures that come later are found by the next start
    * `--index FILE` - keeps that index there. The name ends in `.index`. It needs `--pictures`
    * `--labels "a dog, a cat"` - the labels to begin with, between commas. Can be given several times
    * `--labels-file FILE` - a label in each line. Can be given several times, and beside `--labels`
    * `--template "a drawing of {label}"` - the template to begin with, or `openai_imagenet` or
      `simple_imagenet`. Defaults to `"a photo of {label}"`
    * `--repo MODEL` - another model: `org/name` on the Hugging Face Hub, a directory, or `embedded`
      for the small one in this library, which knows emoji and no photographs
    * `--device DEVICE` - `auto`, `cpu`, `cuda`, `cuda:1` or `mps`
    * `--precision PRECISION` - `f32`, `bf16`, `f16`, `int8` or `auto`: 16 bits where the device is faster with them

  Press Ctrl-C twice to stop it.

  ## Who can use it

  The server listens on 127.0.0.1 only, and answers only requests that name 127.0.0.1 or localhost and come from
  its own page: other pages in your browser cannot use it. It serves only the pictures of the strip. Connections,
  sizes and times are bounded. Pictures and labels stay on this machine, and nothing is kept.

  Everybody who is logged in on this machine can open the page while it runs. For a machine that you share, or
  for strangers, see the guide "Phoenix".

  From another machine, use a tunnel: `ssh -L 4848:127.0.0.1:4848 host`.
  """

  use Mix.Task

  alias Image.ZeroShot.CLI.{Demo, Shell}

  @impl true
  def run([help | _]) when help in ["--help", "-h"], do: Mix.Task.run("help", ["zero_shot.demo"])
  def run(argv), do: Shell.run(argv, &Demo.run/2)
end
