defmodule Image.ZeroShot.Call.OptionTable do
  @moduledoc false

  # Every option once: its name, type, default, group and documentation. Casting, the check of names
  # and the lists in the documentation read this table. The types are in `OptionType`.
  #
  # Refers to no other module of ours: modules with an option list in their documentation compile
  # after this one.

  alias Image.ZeroShot.Call.OptionType

  @typedoc "Options that belong together, in calls and in the documentation."
  @type group ::
          :repo
          | :model
          | :hub
          | :fetch
          | :serving
          | :name
          | :stub
          | :target
          | :call
          | :stream
          | :embedding
          | :examples
          | :calibration
          | :picture
          | :picture_limits
          | :labels
          | :label_limits
          | :scores
          | :results
          | :suggest
          | :explain
          | :index
          | :index_limit
          | :index_process
          | :nearest

  @type row :: {
          name :: atom(),
          type :: OptionType.t(),
          default :: term(),
          group(),
          documentation :: String.t()
        }

  # The native library counts with 32 bits.
  @limit {:integer, 1, 0xFFFF_FFFF}

  @rows [
    # How long a call may take, and who answers it.
    {:timeout, {:or, [:infinity], {:integer, 0, 0xFFFF_FFFF}}, 15_000, :call,
     """
     how long a call may take once the model is loaded, in milliseconds or `:infinity`
     """},
    {:serving, :serving, nil, :target,
     """
     the name of an `Image.ZeroShot.Serving`, on this node or on another, instead of the options that
     name a model. `nil` starts a serving for the model when it is first needed
     """},

    # Which model, and where it computes.
    {:repo, :repo, "openai/clip-vit-base-patch32", :repo,
     """
     the model: a name on the Hugging Face Hub such as `"org/name"`, `{:hf, name}` or
     `{:hf, name, revision: revision}`; `{:local, directory}` for a directory in Hugging Face layout;
     or `:embedded` for the small model that comes with the library, which knows emoji and not
     photographs. The default is downloaded once (605 MB)
     """},
    {:device, :device, :auto, :model,
     """
     where to compute: `:auto`, `:cpu`, `:cuda`, `{:cuda, index}` or `:mps`. A device that you name
     and that is not there is an error. `:auto` takes the best there is; `Image.ZeroShot.info/1` tells
     which
     """},
    {:precision, {:one_of, [:f32, :bf16, :f16, :int8, :auto]}, :f32, :model,
     """
     what matrices are multiplied in. `:f32` equals the reference to 1e-5. `:bf16` (CUDA, and on Linux
     processors with AVX512_BF16 or AMX), `:f16` (CUDA) and `:int8` (on Linux, processors with VNNI) take
     less memory and are less exact. All are faster than `:f32`, except `:bf16` on Intel processors without
     AMX. One for which the device has no instructions is an error. `:auto` takes `:bf16` or `:f16` where it
     is faster, and `:f32` elsewhere. See [Precision](production.md#precision)
     """},
    {:cache_dir, :cache_dir, nil, :model,
     """
     where exported encoders are kept (not the models that they come from). `nil` is `image_zero_shot`
     in the user's cache directory. A service without one exports them at every load
     """},
    {:torchscript, {:or, [nil], :directory}, nil, :model,
     """
     a directory with `image.pt` and `text.pt`, encoders of this model that you exported yourself, to
     use instead of ours. They compute in what they were exported with: `:precision` is `:f32` or
     `:auto` then. TorchScript is a program that runs with the rights of the VM: name only files
     that you would run
     """},

    # How a model is found by its name. `nil` leaves it to the variables of Hugging Face's tools.
    {:revision, {:or, [nil], :revision}, nil, :hub,
     """
     a branch, a tag, a commit or `"refs/pr/N"`. `nil` is `"main"`
     """},
    {:token, :token, nil, :hub,
     """
     the access token for a private or gated model, or `false` for none at all. `nil` takes that of
     the environment or of `hf auth login`
     """},
    {:offline, {:or, [nil], :boolean}, nil, :hub,
     """
     `true` sends no request, whatever happens. `nil` does what `HF_HUB_OFFLINE` says
     """},
    {:hub_cache, {:or, [nil], :directory}, nil, :hub,
     """
     the cache, a directory with `models--org--name` in it. `nil` takes what the environment says, or
     else `~/.cache/huggingface/hub`. A service without a home directory, such as one of systemd with
     `DynamicUser=`, has to name one
     """},
    {:hub_endpoint, :endpoint, nil, :hub,
     """
     the address of the Hub or of a mirror. `nil` takes what `HF_ENDPOINT` says, or else
     `https://huggingface.co`. An address with a user or a password is refused, and not shown
     """},
    {:refresh, :boolean, false, :fetch,
     """
     whether to ask the Hub where the branch is now, even if the model is in the cache
     """},
    {:progress, {:or, [nil], :process}, nil, :fetch,
     """
     a process that receives `{:hub_progress, step}` while files are downloaded. `step` has the
     `:file`, and `:done` and `:total`, the bytes of all files together. When the process ends, the
     download stops
     """},

    # How a model is served.
    {:name, :name, :required, :name,
     """
     an atom that calls give as `serving: name`
     """},
    {:dim, {:integer, 64, 16_384}, 512, :stub,
     """
     the length of an embedding, from 64 to 16384
     """},
    {:logit_bias, {:or, [nil], {:number, -100.0, 0.0}}, nil, :stub,
     """
     a number such as `-16.5` stubs a SigLIP model, which has `scores: :sigmoid`. `nil` stubs CLIP
     """},
    {:max_queue, {:or, [:infinity], @limit}, 512, :serving,
     """
     the most callers at a time, or `:infinity`
     """},
    {:max_batch, {:or, [nil], @limit}, nil, :serving,
     """
     the most pictures of one run; 16 prompts count as one picture. A smaller batch shortens waits, and
     fewer pictures a second are classified. `nil` is 16 for each of the `:threads` on a CPU, at most
     256, and 256 on a GPU
     """},
    {:max_cached_prompts, {:integer, 0, 0xFFFF_FFFF}, 50_000, :serving,
     """
     how many prompts' embeddings are kept, so that a label that was asked for before costs nothing.
     `0` keeps none. The default takes 100 MB for ViT-B/32
     """},
    {:concurrency, {:integer, 1, 1_024}, 1, :serving,
     """
     how many batches run at the same time, each on its own thread. They share one copy of the weights
     """},
    {:threads, {:or, [nil], {:integer, 1, 1_024}}, nil, :serving,
     """
     how many threads work on one batch on a CPU. They divide its pictures among themselves, or work
     together where there are few. `nil` is the number of schedulers divided by `:concurrency`
     """},

    # Labels and their prompts.
    {:template, :template, "a photo of {label}", :labels,
     """
     the prompt made of each label: a string with `{label}` in it, or `nil` for the label itself. A
     list makes several prompts of a label, whose embeddings are averaged (ensembling, as in the CLIP
     paper). `:openai_imagenet` is the list of 80 that CLIP's authors wrote for ImageNet,
     `:simple_imagenet` the seven that did nearly as well
     """},
    {:max_labels, @limit, 10_000, :label_limits,
     """
     the number of labels
     """},
    {:max_label_bytes, @limit, 4_096, :label_limits,
     """
     the length of a label in bytes
     """},
    {:max_prompts, @limit, 100_000, :label_limits,
     """
     the number of prompts of all labels: templates times labels
     """},

    # Scoring.
    {:scores, {:one_of, [:softmax, :sigmoid, :logits, :cosine]}, :softmax, :scores,
     """
     `:softmax`, `:sigmoid` (SigLIP models only), `:logits` or `:cosine`; see the table below
     """},
    {:multi_label, :boolean, false, :scores,
     """
     `true` scores each label by itself, so that several or none can be high
     """},
    {:other, :other, nil, :scores,
     """
     what stands for "none of these": a label, a list of prompts, or `{label, prompts}`. It competes
     with the labels and appears in the results, a list of prompts with the label `nil`. A label gets
     the template like any other; the prompts of a list each compete by themselves. It is an error
     if a label has the same name, except with `multi_label: true`. `nil` adds nothing
     """},
    {:top_k, {:or, [nil], @limit}, nil, :results,
     """
     the most results to return. `nil` returns all
     """},
    {:min_score, {:or, [nil], {:number, -1.0e6, 1.0e6}}, nil, :results,
     """
     leaves out results below it. `nil` leaves out none
     """},
    {:logit_scale, {:or, [nil], :scale}, nil, :scores,
     """
     the factor between cosine and softmax. A smaller one makes the scores more alike. `nil` takes the
     model's own (100 for OpenAI's)
     """},

    # Pictures.
    {:background, :colour, :white, :picture,
     """
     the colour behind transparent pixels: `:white`, `:black` or `{red, green, blue}`, each from 0 to
     255. `:drop` drops the transparency and shows the colour stored under it, as OpenAI's own code
     does; image_vision lays pictures over black, Hugging Face transformers 5 over white
     """},
    {:color_profile, {:one_of, [:ignore, :srgb]}, :ignore, :picture,
     """
     `:srgb` converts the colours of a picture to sRGB by the ICC profile that its file embeds, as
     libvips and browsers do. `:ignore` takes the numbers unconverted, as `convert("RGB")` of Pillow,
     transformers and image_vision do. Phone photos are often in Display P3; read as sRGB, their
     colours are duller. See "Colour profiles" in `Image.ZeroShot.Source`
     """},
    {:decode, {:one_of, [:exact, :fast]}, :exact, :picture,
     """
     `:exact` decodes every pixel. `:fast` decodes a large JPEG to a half, a quarter or an eighth of
     its width and height, as long as both stay four times the size that the model resizes to. Smaller
     pictures and other formats come out as with `:exact`. A photo of 12 megapixels takes half the
     time. Of the photos measured, resized pixels differed by 0.04 to 0.27 of 255 levels in the mean;
     noise and checkerboards can differ by more
     """},
    {:max_bytes, @limit, 25_000_000, :picture_limits,
     """
     the size of an image file
     """},
    {:max_pixels, @limit, 50_000_000, :picture_limits,
     """
     width times height
     """},
    {:max_side, @limit, 16_384, :picture_limits,
     """
     width and height
     """},
    {:max_decode_bytes, @limit, 512 * 1024 * 1024, :picture_limits,
     """
     the memory that decoding may take, in bytes. All pictures that are decoded at the same time take
     at most 1 GiB; those beyond wait
     """},
    {:max_decode_ms, @limit, 10_000, :picture_limits,
     """
     the processor time that decoding may take, in milliseconds
     """},

    # Vectors from elsewhere.
    {:model, {:or, [nil], :text}, nil, :embedding,
     """
     the name of the model, as in the `:model` of an embedding. Given, the binary is a bare vector
     """},
    {:commit, {:or, [nil], :text}, nil, :embedding,
     """
     the commit of the model, as in the `:commit` of an embedding
     """},
    {:kind, {:one_of, [:picture, :text]}, :picture, :embedding,
     """
     what was embedded: `:picture` or `:text`
     """},

    # Labels that are shown as well as named.
    {:picture_weight, {:number, 0.0, 1.0}, 0.5, :examples,
     """
     what the pictures of a label count beside its prompts, from 0.0 (only the prompts) to 1.0 (only
     the pictures). It does not matter for a label that has only one of them
     """},
    {:other, :term, nil, :calibration,
     """
     the label of examples that show none of the labels, and of results that find none
     """},
    {:max_time, {:or, [:infinity], {:integer, 0, 0xFFFF_FFFF}}, 600_000, :calibration,
     """
     how long the whole calibration may take once the model is loaded, in milliseconds or
     `:infinity`; `:timeout` is for each picture
     """},

    # Labels where the caller has none.
    {:vocabulary, {:or, [nil], :vocabulary}, nil, :suggest,
     """
     what may be suggested: a list of labels, or the path of a file with one in each line. `nil` is the
     list of 2,093 English nouns that comes with the library
     """},

    # Maps of a picture.
    {:format, {:or, [nil], {:one_of, [:png, :ansi]}}, nil, :explain,
     """
     adds to each result a picture of its map: `:png` the bytes of a PNG file, `:ansi` text for a terminal
     with colours. `nil` adds none
     """},

    # Indexes.
    {:storage, {:one_of, [:f32, :f16, :i8]}, :f32, :index,
     """
     how vectors are stored: `:f32` as they are, `:f16` rounded, or `:i8` as two bytes for each component,
     of which a search first reads one, an integer of 8 bits. See
     [Storage](`m:Image.ZeroShot.Index#module-storage`)
     """},
    {:max_size, @limit, 1_000_000, :index_limit,
     """
     the most entries. What would be one too many is an error with the reason `:index_full`
     """},
    {:name, :name, :required, :index_process,
     """
     an atom that calls give as the index
     """},
    {:path, {:or, [nil], :file}, nil, :index_process,
     """
     a file that is read at the start, if it is there, and written at an orderly end, if something has
     changed. `nil` keeps nothing
     """},

    # Searches in an index.
    {:k, @limit, 10, :nearest,
     """
     the most results
     """},
    {:min_score, {:or, [nil], {:number, -1.0, 1.0}}, nil, :nearest,
     """
     leaves out results below this cosine. `nil` leaves out none. Texts need a lower one than pictures, see
     [Two thresholds](`m:Image.ZeroShot.Embedding#module-two-thresholds`)
     """},
    {:only, :only, nil, :nearest,
     """
     searches only among these entries: a list of ids, or a function of an id that returns whether it may be
     a result. There are `:k` results as long as there are so many such entries. `nil` searches all
     """},

    # Many pictures.
    {:window, {:or, [nil], {:integer, 1, 100_000}}, nil, :stream,
     """
     how many pictures may be in flight, from 1 to 100000. `nil` is 2 x `:max_batch` x `:concurrency` of
     the serving plus the number of cores, and at most three quarters of its `:max_queue`
     """},
    {:progress, {:or, [nil], {:function, 1}}, nil, :stream,
     """
     a function that is called for each picture, in the process that consumes the stream and before it
     gets the picture, with `%{done: count, failed: count, total: count}`. `:done` includes `:failed`;
     `:total` is `nil` unless the pictures are a list
     """}
  ]

  # Every call asks for some of them.
  @by_group Enum.group_by(@rows, &elem(&1, 3))

  @doc "All groups."
  @spec groups() :: [atom()]
  def groups, do: @rows |> Enum.map(&elem(&1, 3)) |> Enum.uniq()

  @doc "The rows of these groups, in their order."
  @spec rows([group()]) :: [row()]
  def rows(groups), do: Enum.flat_map(groups, &Map.get(@by_group, &1, []))

  @spec names([group()]) :: [atom()]
  def names(groups), do: groups |> rows() |> Enum.map(&elem(&1, 0))

  @doc "A Markdown list of a group's options."
  @spec docs(group()) :: String.t()
  def docs(group) do
    Enum.map_join(rows([group]), "\n", fn {name, _type, default, _group, text} ->
      lines = text |> String.trim() |> String.replace("\n", "\n  ")
      "* `#{inspect(name)}` - #{lines}. #{default(default)}"
    end)
  end

  @doc "The names of a group for a sentence."
  @spec mention(group()) :: String.t()
  def mention(group), do: Enum.map_join(names([group]), ", ", &"`#{inspect(&1)}`")

  defp default(:required), do: "Required"
  defp default(number) when is_integer(number), do: "Defaults to `#{grouped(number)}`"
  defp default(value), do: "Defaults to `#{inspect(value)}`"

  defp grouped(number) do
    number
    |> Integer.digits(1_000)
    |> then(fn [first | rest] ->
      Enum.join([first | Enum.map(rest, &String.pad_leading("#{&1}", 3, "0"))], "_")
    end)
  end
end
