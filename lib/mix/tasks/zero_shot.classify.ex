defmodule Mix.Tasks.ZeroShot.Classify do
  @shortdoc "Says which of your labels fits each of many pictures, or suggests some"

  @moduledoc """
  Classifies pictures, folders of them or wildcards, against labels of your own, or suggests labels for them.

      $ mix zero_shot.classify photos --labels "a dog, a cat, a car"
      $ mix zero_shot.classify "photos/**/*.jpg" --labels-file labels.txt --format csv > photos.csv
      $ mix zero_shot.classify photos --labels "a dog, a cat" --html photos.html
      $ mix zero_shot.classify "priv/samples/*.{jpg,png,webp}" --labels-file priv/samples/labels.txt --repo embedded
      $ mix zero_shot.classify photos --suggest

  A folder is searched with all folders in it, for files with a picture's extension and no leading
  dot; links to folders are not followed. A file that is named itself, or found by a wildcard, is taken
  whatever its name. The order is that of the command line, and sorted within a folder.

  The model is the one that the application is configured for, downloaded and loaded if need be.
  Pictures are read and resized on all cores while the model works, as by
  `Image.ZeroShot.classify_many/3`. Each result is written, in this order, as soon as it is ready.

  A picture that fails is reported on the standard error and does not stop the rest; the exit status is
  then 1. On a terminal the last line shows the progress.

  ## Flags

    * `--labels "a dog, a cat"` - labels between commas. Can be given several times
    * `--labels-file FILE` - a label in each line, which may contain commas; empty lines are left
      out. Can be given several times, and beside `--labels`
    * `--suggest` - suggests labels instead; see below
    * `--vocabulary FILE` - what `--suggest` may suggest: a label in each line. Defaults to the nouns that come
      with the library
    * `--template "a drawing of {label}"` - the prompt made of each label. Given several times, their
      embeddings are averaged; `openai_imagenet` and `simple_imagenet` are lists by name
    * `--top N` - at most N labels of each picture, best first. Defaults to 3 in a table, to 5 with
      `--html`, and elsewhere to all, or to 10 with `--suggest`
    * `--min-score SCORE` - leaves out labels below it, such as `0.2`
    * `--multi-label` - scores each label by itself, so that several or none can be high
    * `--other "something else"` - a label for "none of these", which competes with the others
    * `--scores SCORES` - `softmax`, `sigmoid` (SigLIP models only), `cosine` or `logits`. A table shows the first two
      as percents. Defaults to `softmax`
    * `--format FORMAT` - `table`, `json` or `csv`. Defaults to `table`
    * `--html FILE` - also writes a page of thumbnails with bars, to sort and to filter, in one file that
      needs no other; see below
    * `--repo MODEL` - another model: `org/name` on the Hugging Face Hub, a directory, or `embedded`
      for the small one in this library, which knows emoji and no photographs
    * `--device DEVICE` - `auto`, `cpu`, `cuda`, `cuda:1` or `mps`
    * `--precision PRECISION` - `f32`, `bf16`, `f16`, `int8` or `auto`: 16 bits where the device is faster with them

  ## Suggestions

      $ mix zero_shot.classify photos --suggest
      $ mix zero_shot.classify photos --suggest --vocabulary words.txt --top 5

  Without labels of your own, `--suggest` ranks a vocabulary for each picture, as `Image.ZeroShot.suggest/2` does:
  labels that mean the same are one, and a score is a share of the whole vocabulary, so it is low where many labels
  fit a little. Choose labels from what is suggested, and classify with those.

  The first run with a model and a vocabulary embeds all its prompts, before the first picture. Later runs read
  them from a file in the user's cache.

  `--labels`, `--labels-file`, `--multi-label`, `--other` and `--scores` are an error together with `--suggest`, and
  `--vocabulary` is one without it. All other flags mean the same. The vocabulary is checked before any picture is
  read.

  ## Formats

  `table` is for people, a line for each picture.

  `json` is JSON Lines, one object a line, ASCII only:

      {"path":"a.jpg","results":[{"label":"a dog","score":0.97},{"label":"a cat","score":0.03}]}
      {"path":"b.jpg","error":{"reason":"not_found","message":"\\"b.jpg\\": no such file"}}

  A path that is not valid UTF-8 has U+FFFD instead of such bytes, and `"path_base64"` beside it.

  `csv` is as in RFC 4180, with the columns `path`, `label`, `score` and `error`: a line for each
  label of a picture, or one for a picture that failed. Paths are written byte by byte.

  ## A page

      $ mix zero_shot.classify photos --labels "a dog, a cat" --html photos.html

  The page shows for each picture what the model saw of it, its best labels, and its name as a link to the file.
  It sorts by name, by the best score or by the score of a label, and filters by the best label and by name. It
  loads nothing from elsewhere. Thumbnails are JPEG files of 2 to 4 KB, so 5,000 pictures make a page of 15 to
  30 MB. The file appears when all pictures are done.
  """

  use Mix.Task

  alias Image.ZeroShot.CLI.{Console, Shell}

  @impl true
  def run([help | _]) when help in ["--help", "-h"],
    do: Mix.Task.run("help", ["zero_shot.classify"])

  def run(argv), do: Shell.run(argv, &Console.run/2)
end
