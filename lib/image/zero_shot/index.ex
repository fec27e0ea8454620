defmodule Image.ZeroShot.Index do
  @moduledoc """
  Nearest neighbours of pictures and texts, in memory, found by comparing every entry.

  Put embeddings in under ids of your own, and ask for the entries that are most like a picture, a text, an
  embedding or another entry.

      iex> alias Image.ZeroShot.Index
      iex> index = Index.new()
      iex> paths = for name <- ~w(cat.png dog.jpg pizza.webp), do: Path.join("priv/samples", name)
      iex> for path <- paths do
      ...>   :ok = Index.put(index, path, Image.ZeroShot.embed({:path, path}, repo: :embedded))
      ...> end
      iex> {:ok, [best | _]} = Index.nearest(index, {:text, "a photo of a dog"}, repo: :embedded)
      iex> best.id
      "priv/samples/dog.jpg"
      iex> {:ok, [_first, _second]} = Index.nearest(index, {:id, "priv/samples/dog.jpg"})

  A search compares the query with every entry. So it has no parameters and no training, and a
  filter never leaves too few results. On x86 with AVX2 or AVX-512, one search among 100,000
  entries of 512 dimensions takes 0.9 to 1.3 times the processor time of reading them from memory
  once; `bench/README.md` has the figures. An index takes 1,000,000 entries unless `:max_size`
  says otherwise. For more than a few million, or for several machines, use PostgreSQL with
  pgvector: see the guide "Search".

  ## Storage

  | `:storage` | bytes for each of 512 dimensions | a million entries | scores |
  | --- | --- | --- | --- |
  | `:f32` | 4 | 2.0 GB | as computed |
  | `:f16` | 2 | 1.0 GB | off by 0.0005 at most |
  | `:i8` | 2 | 1.0 GB | off by 0.00003 at most in tests; one search takes a third of the processor time of `:f32` |

  `:i8` stores each component in two bytes, relative to the largest component of its vector. Its name
  says what a search reads: an integer of 8 bits, the upper byte of each component. By these it
  chooses 4 x `:k` + 100 candidates, and computes their scores with both bytes. So it takes as much
  memory as `:f16`, and half as much reading. A neighbour that is not among the candidates is
  missed: `:i8` is therefore not exact. In tests on vectors like CLIP's, it found all of the ten
  nearest.

  An id takes its size in Erlang's external format, plus about 100 bytes.

  ## Who owns it

  `new/1` returns an index without an owner: any process of the node may use it, a crash of one
  does not change it, and its memory is freed when no process holds it any more. If the index
  should have a name and outlive the processes that use it, start it in a supervisor:

      children = [
        {Image.ZeroShot.Index, name: MyApp.Photos, path: "/var/lib/my_app/photos.index"}
      ]

  Then `MyApp.Photos` is the index in every function here. The process only holds it and takes no
  part in searches. With `:path`, the index is read at the start and written when the supervisor
  stops it. If the process is killed, the next one starts with what was saved last, or empty
  without a `:path`; calls in between return an error with the reason `:index_down`. Call
  `save/2` after changes that you cannot repeat.

  An index belongs to one node. From another node, call these functions by `:erpc`.

  ## Many processes

  A search sees the index as it was at one moment, with all of a `put_many/2` of up to 1,000 entries or
  nothing of it. Writers do not wait for searches, nor searches for writers or for `save/2`: they share
  blocks of a megabyte, and a change to a block that is being read goes to a copy.

  No scheduler is blocked. Threads of the native library, as many as there are cores, search
  together and answer by messages. They take up to 64 waiting searches of an index and read its
  entries once for all of them. Processes take turns. When 4,096 searches wait for one index, the
  next one is refused with the reason `:overloaded`; a search that waits longer than its
  `:timeout` gets `:timeout`. If a caller dies, its search is dropped unless it has begun.
  """

  alias Image.ZeroShot
  alias Image.ZeroShot.{Embedding, Error, Native, Picture}
  alias Image.ZeroShot.Call.{Argument, Options, OptionValues, Started}
  alias Image.ZeroShot.Index.{Finder, Ids, Owner}

  # Entries that are put together.
  @part 1_000
  @enforce_keys [:ref]
  defstruct [:ref]

  @opaque t :: %__MODULE__{ref: reference()}

  @typedoc "An index, or the name or the process of one."
  @type index :: t() | atom() | pid()

  @typedoc "Any term. Those that are equal by `===` are the same id."
  @type id :: term()

  @typedoc """
  A query: an entry of the index, a text, an embedding, or a picture (see
  `t:Image.ZeroShot.picture/0`).
  """
  @type query :: {:id, id()} | {:text, String.t()} | ZeroShot.picture()

  @typedoc "A neighbour, and its cosine with the query, from -1.0 to 1.0."
  @type result :: %{id: id(), score: float()}

  @doc """
  Makes an empty index. The first entry decides about the model and the dimensions.

  ## Options

  #{Image.ZeroShot.Call.OptionTable.docs(:index)}
  #{Image.ZeroShot.Call.OptionTable.docs(:index_limit)}

  ## Examples

      iex> Image.ZeroShot.Index.new(storage: :i8, max_size: 10_000)
      #Image.ZeroShot.Index<0 entries, i8>

  """
  @spec new(keyword()) :: t()
  def new(opts \\ []) do
    opts = Options.index!(opts, :new)
    bang!(made(opts))
  end

  defp made(opts) do
    with :ok <- Started.check(),
         {:ok, ref} <- Error.from_native(Native.index_new(opts.storage, opts.max_size)),
         do: {:ok, %__MODULE__{ref: ref}}
  end

  @doc """
  Starts a process that holds an index under a name; see [Who owns it](#module-who-owns-it).

  Returns `{:error, error}` with an `Image.ZeroShot.Error` if the file at `:path` exists and cannot be
  loaded, or its directory does not exist. A file that is loaded keeps its storage.

  ## Options

  #{Image.ZeroShot.Call.OptionTable.docs(:index_process)}

  and those of `new/1`.
  """
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts) do
    opts = Options.index!(opts, :process)
    Owner.start_link(opts.name, {fn -> open(opts) end, &close(&1, opts.path)})
  end

  # An index, and the number of changes that are in its file.
  defp open(%{path: path} = opts) do
    with :ok <- in_directory(path),
         {:ok, index} <- if(path && File.exists?(path), do: read(path, opts), else: made(opts)),
         do: {:ok, {index, info(index).changes}}
  end

  # Otherwise it would be lost at the end.
  defp in_directory(nil), do: :ok

  defp in_directory(path) do
    directory = Path.dirname(path)

    if File.dir?(directory),
      do: :ok,
      else:
        Error.error(
          :not_found,
          "#{inspect(path)}: the directory #{inspect(directory)} does not exist"
        )
  end

  defp close(_held, nil), do: :ok

  defp close({index, saved}, path),
    do:
      if(info(index).changes != saved,
        do: bang!(with(:ok <- save(index, path), do: {:ok, :saved}))
      )

  @doc false
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) do
    opts = OptionValues.keyword!(opts)
    # Time to write a large file.
    %{id: opts[:name] || __MODULE__, start: {__MODULE__, :start_link, [opts]}, shutdown: 60_000}
  end

  @doc """
  Puts an entry in, or replaces the one with this id.

  Returns an error with the reason `:wrong_model` for an embedding of another model than the entries before,
  `:index_full`, or `:overloaded`. An id of more than 65,536 bytes in Erlang's external format raises an
  `ArgumentError`.
  """
  @spec put(index(), id(), Embedding.t()) :: :ok | {:error, Error.t()}
  def put(index, id, embedding), do: put_many(index, [{id, embedding}])

  @doc """
  Puts `{id, embedding}` entries in: a list or any other enumerable, also a lazy stream.

  They go in 1,000 at a time, each thousand as a whole. After an error, the thousands before it are in.

  ## Examples

      paths
      |> Enum.map(&{:path, &1})
      |> Image.ZeroShot.embed_many()
      |> Stream.flat_map(fn
        {{:path, path}, {:ok, embedding}} -> [{path, embedding}]
        {_picture, {:error, _error}} -> []
      end)
      |> then(&Image.ZeroShot.Index.put_many(index, &1))

  """
  @spec put_many(index(), Enumerable.t()) :: :ok | {:error, Error.t()}
  def put_many(index, entries) do
    entries = Argument.enumerable!(entries, "entries")

    with {:ok, index} <- fetch(index) do
      entries
      |> Stream.chunk_every(@part)
      |> Enum.reduce_while(:ok, fn part, :ok ->
        case put_part(index, part) do
          {:ok, :done} -> {:cont, :ok}
          {:error, error} -> {:halt, {:error, error}}
        end
      end)
    end
  end

  defp put_part(index, [first | _] = part) do
    {_id, embedding} = entry!(first)
    model = model(embedding)

    {ids, rows} =
      part
      |> Enum.map(fn entry ->
        {id, embedding} = entry!(entry)
        {Ids.encode!(id), checked(embedding, model)}
      end)
      |> Enum.unzip()

    with {:ok, rows} <- all(rows) do
      portable = Enum.all?(ids, &Ids.portable?/1)
      ask(index, {:put, model, Ids.pack_encoded(ids), rows, portable})
    end
  end

  defp entry!({id, %Embedding{} = embedding}), do: {id, embedding}

  defp entry!({id, other}) do
    Embedding.wrong!(
      "the entry with the id #{Argument.shown(id)} to be an Image.ZeroShot.Embedding",
      other
    )
  end

  defp entry!(other), do: Argument.wrong!("each entry to be {id, embedding}", other)

  # Within a part; the index checks the first one against its own.
  defp checked(embedding, model) do
    if model(embedding) == model, do: Embedding.row(embedding), else: {:other, embedding, model}
  end

  defp all(rows) do
    case Enum.find(rows, &is_tuple/1) do
      nil -> {:ok, IO.iodata_to_binary(rows)}
      {:other, embedding, model} -> Embedding.check_model(embedding, model)
    end
  end

  @doc """
  Deletes an entry. Deleting an unknown id is not an error.
  """
  @spec delete(index(), id()) :: :ok | {:error, Error.t()}
  def delete(index, id) do
    with {:ok, index} <- fetch(index),
         {:ok, _count} <- ask(index, {:delete, Ids.pack!([id])}),
         do: :ok
  end

  @doc """
  Returns whether the index has an entry with this id. Raises an `Image.ZeroShot.Error` if no index of this
  name is running, or if it is overloaded.
  """
  @spec member?(index(), id()) :: boolean()
  def member?(index, id),
    do: index |> fetch() |> bang!() |> ask({:member, Ids.encode!(id)}) |> bang!()

  @doc """
  Returns the number of entries. Raises an `Image.ZeroShot.Error` if no index of this name is running.
  """
  @spec size(index()) :: non_neg_integer()
  def size(index), do: info(index).size

  @doc """
  Returns the ids of all entries, in no order. Ids that are put or deleted meanwhile may be in
  the list or not.
  """
  @spec ids(index()) :: [id()]
  def ids(index) do
    index = index |> fetch() |> bang!()
    index |> encoded_ids() |> Enum.map(&Ids.decode/1)
  end

  defp encoded_ids(index) do
    Stream.unfold(0, fn from ->
      case bang!(ask(index, {:ids, from, from + @part})) do
        [] -> nil
        ids -> {ids, from + @part}
      end
    end)
    |> Stream.concat()
  end

  @doc """
  Returns facts about an index.

    * `:size`, `:max_size` - the number of entries, and the most there can be
    * `:storage` - `:f32`, `:f16` or `:i8`
    * `:bytes` - what the vectors take in memory; ids come on top
    * `:model` - the `:name`, `:commit` and `:dim` of the model, or `nil` before the first entry
    * `:waiting` - the number of searches in the queue
    * `:changes` - a number that grows with each change
    * `:portable` - whether it can be saved: no id was ever put that is a process, a reference or a function

  More may come with later versions.

  ## Examples

      iex> info = Image.ZeroShot.Index.info(Image.ZeroShot.Index.new())
      iex> {info.size, info.storage, info.model}
      {0, :f32, nil}

  """
  @spec info(index()) :: %{required(atom()) => term()}
  def info(index) do
    %__MODULE__{ref: ref} = index |> fetch() |> bang!()
    ref |> Native.index_info() |> Error.from_native() |> bang!()
  end

  @doc """
  Finds the entries that are most like a picture, a text, an embedding or another entry, the best first.

  The query is `{:id, id}` for an entry, which is not its own neighbour; `{:text, text}`; or a picture as
  everywhere, such as `{:path, path}` or an `Image.ZeroShot.Embedding`. Pictures and texts are
  embedded first. Entries of equal score come in the order in which their ids were first put.

  A function given as `:only` runs in the calling process, once for each id that it is asked about,
  best first. If too few of the best entries pass, the search is repeated for more of them. So a
  filter that few entries pass costs several searches; a list of ids never does.

  A list of pictures or texts raises an `ArgumentError`: see `nearest_many/3`.

  Returns an error with the reason `:wrong_model` if the query is of another model than the index, `:not_found`
  for an unknown id, `:overloaded`, or `:timeout`. A query that has to be embedded fails as
  `Image.ZeroShot.try_embed/2` and `Image.ZeroShot.try_embed_text/2` do.

  ## Options

  #{Image.ZeroShot.Call.OptionTable.docs(:nearest)}
  #{Image.ZeroShot.Call.OptionTable.docs(:call)}

  For a picture, also the options of `Image.ZeroShot.embed/2`; for a text, those of
  `Image.ZeroShot.embed_text/2`.

  ## Examples

      iex> index = Image.ZeroShot.Index.new()
      iex> embedding = fn x, y ->
      ...>   vector = <<x::float-32-little, y::float-32-little>>
      ...>   {:ok, embedding} = Image.ZeroShot.Embedding.from_binary(vector, model: "my/model")
      ...>   embedding
      ...> end
      iex> entries = [{1, embedding.(1.0, 0.0)}, {2, embedding.(0.0, 1.0)}, {3, embedding.(1.0, 0.0)}]
      iex> :ok = Image.ZeroShot.Index.put_many(index, entries)
      iex> Image.ZeroShot.Index.nearest(index, embedding.(1.0, 0.0), k: 2)
      {:ok, [%{id: 1, score: 1.0}, %{id: 3, score: 1.0}]}
      iex> Image.ZeroShot.Index.nearest(index, {:id, 1}, only: &(&1 > 1), min_score: 0.5)
      {:ok, [%{id: 3, score: 1.0}]}

  """
  @spec nearest(index(), query(), keyword()) :: {:ok, [result()]} | {:error, Error.t()}
  def nearest(index, query, opts \\ []) do
    query = single!(query)
    {own, embed} = Options.nearest!(opts, kind(query))

    with {:ok, index} <- fetch(index),
         {:ok, resolved} <- query |> resolve(embed) |> explain(query),
         do: index.ref |> Finder.find(resolved, own) |> explain(query)
  end

  defp explain({:error, %Error{reason: :not_found} = error}, {:id, id}) do
    message =
      "the index has no entry #{Argument.shown(id)}; add it with Image.ZeroShot.Index.put/3"

    {:error, %{error | message: message}}
  end

  # Without {:text, _} a text is taken for the bytes of a picture.
  defp explain({:error, %Error{reason: :invalid_image} = error}, query) do
    way_out = if Picture.text?(query), do: "; to search by a text give {:text, text}", else: ""
    {:error, %{error | message: error.message <> way_out}}
  end

  # An id by itself is taken for a picture.
  defp explain({:error, %Error{reason: :unsupported_image} = error}, id)
       when is_atom(id) or is_number(id) do
    message = "#{error.message}; to search by an entry give {:id, #{Argument.shown(id)}}"
    {:error, %{error | message: message}}
  end

  defp explain(result, _query), do: result

  @doc """
  Same as `nearest/3` for a list of entries or embeddings, with a list of results for each.

  Sixty-four of them at a time read the index together, which is several times as fast as one by one. Embed
  pictures before, with `Image.ZeroShot.embed_many/2`. `:only` takes no function here.
  """
  @spec nearest_many(index(), [{:id, id()} | Embedding.t()], keyword()) ::
          {:ok, [[result()]]} | {:error, Error.t()}
  def nearest_many(index, queries, opts \\ []) do
    {own, []} = Options.nearest!(opts, :ready)

    if is_function(own.only),
      do: raise(ArgumentError, "expected :only to be a list of ids or nil, got: a function")

    queries = queries |> Argument.enumerable!("queries") |> Enum.map(&ready!/1)
    with {:ok, index} <- fetch(index), do: Finder.find_many(index.ref, queries, own)
  end

  defp single!({:text, texts}) when is_list(texts), do: several!({:text, texts}, "embed_text")
  defp single!(pictures) when is_list(pictures), do: several!(pictures, "embed")
  defp single!(query), do: query

  defp several!(query, embed) do
    raise ArgumentError,
          "expected one query, got a list: #{Argument.shown(query)}; for several, embed them with " <>
            "Image.ZeroShot.#{embed}/2 and call Image.ZeroShot.Index.nearest_many/3"
  end

  defp kind({:id, _id}), do: :ready
  defp kind(%Embedding{}), do: :ready
  defp kind({:text, _text}), do: :text
  defp kind(_picture), do: :picture

  defp ready!(query) do
    if kind(query) == :ready,
      do: query |> resolve([]) |> bang!(),
      else: Argument.wrong!("{:id, id} or an Image.ZeroShot.Embedding", query)
  end

  defp resolve({:id, id}, _opts), do: {:ok, {:id, Ids.encode!(id)}}

  defp resolve(%Embedding{} = embedding, _opts), do: {:ok, vector(embedding)}

  defp resolve({:text, text}, opts) do
    with {:ok, embedding} <- ZeroShot.try_embed_text(text, opts), do: {:ok, vector(embedding)}
  end

  defp resolve(picture, opts) do
    with {:ok, embedding} <- ZeroShot.try_embed(picture, opts), do: {:ok, vector(embedding)}
  end

  defp vector(embedding), do: {:vector, model(embedding), Embedding.row(embedding)}

  @doc """
  Writes an index to a file, as it is at this moment.

  The file is whole at any time, even if the machine stops in between: it is written beside its
  place (with `.saving` behind the name) and renamed when it is on the disk, and each part has a
  checksum. Searches and changes go on meanwhile. If another process saves to the same place at
  this moment, the result is an error with the reason `:overloaded`. Other reasons are
  `:disk_full`, `:not_found` for a missing directory, and `:io`, also for a path that is not a file's. A
  file that is replaced passes its permissions on.

  Raises an `ArgumentError` if an id was ever put that is, or contains, a process, a reference or a function:
  those cannot be read elsewhere.
  """
  @spec save(index(), Path.t()) :: :ok | {:error, Error.t()}
  def save(index, path) do
    with {:ok, %__MODULE__{ref: ref} = index} <- fetch(index) do
      unless info(index).portable do
        raise ArgumentError,
              "expected ids of plain data in an index to save, got processes, references or functions"
      end

      path = path!(path)

      case answer(&Native.index_save(&1, ref, path)) do
        {:ok, :done} ->
          :ok

        {:error, %Error{reason: :not_found} = error} ->
          with(:ok <- in_directory(path), do: {:error, error})

        {:error, error} ->
          {:error, error}
      end
    end
  end

  @doc """
  Reads an index that `save/2` wrote, into memory.

  A file that is damaged, or that another program made, is an error with the reason `:invalid_index_file`. It
  costs no more memory than a sound one of its size, and makes no new atom: an id with an atom that this
  node does not know is an error too. A file with more entries than `:max_size` is an error with the reason
  `:index_full`.

  ## Options

  #{Image.ZeroShot.Call.OptionTable.docs(:index_limit)}

  ## Examples

      iex> {:error, error} = Image.ZeroShot.Index.load("priv/samples/dog.jpg")
      iex> error.reason
      :invalid_index_file

  """
  @spec load(Path.t(), keyword()) :: {:ok, t()} | {:error, Error.t()}
  def load(path, opts \\ []) do
    read(path, Options.index!(opts, :load))
  end

  defp read(path, %{max_size: max_size}) do
    with :ok <- Started.check(),
         {:ok, ref} <- answer(&Native.index_load(&1, path!(path), max_size)),
         do: check_ids(%__MODULE__{ref: ref}, path)
  end

  defp check_ids(index, path) do
    if index |> encoded_ids() |> Enum.all?(&Ids.valid?/1),
      do: {:ok, index},
      else:
        Error.error(
          :invalid_index_file,
          "#{inspect(path)}: has an id that Image.ZeroShot.Index.save/2 does not write, or with an atom " <>
            "that this node does not know; load the modules that use it, or build the index again"
        )
  end

  defp path!(path) do
    name = chardata(path)

    if name in [nil, ""] or String.contains?(name, <<0>>),
      do: Argument.wrong!("a path that is not empty and has no NUL byte", path),
      else: name
  end

  defp chardata(path) when is_binary(path) or is_list(path) do
    IO.chardata_to_string(path)
  rescue
    _no_text in [ArgumentError, UnicodeConversionError] -> nil
  end

  defp chardata(_other), do: nil

  # These cannot be cancelled: they are short, or are wanted whatever happens to the caller.
  defp ask(%__MODULE__{ref: ref}, question), do: answer(&Native.index_ask(&1, ref, question))

  defp answer(ask) do
    tag = make_ref()

    with {:ok, :sent} <- Error.from_native(ask.(tag)),
         do: receive(do: ({^tag, answer} -> answer |> Error.from_native()))
  end

  defp fetch(%__MODULE__{ref: ref} = index) when is_reference(ref) do
    if node(ref) == node(),
      do: {:ok, index},
      else:
        raise(
          ArgumentError,
          "expected an index of this node, got one of #{inspect(node(ref))}; call this function " <>
            "there, with :erpc.call/4"
        )
  end

  defp fetch(server)
       when is_pid(server) or (is_atom(server) and server not in [nil, true, false]),
       do: with({:ok, {index, _saved}} <- Owner.fetch(server), do: {:ok, index})

  defp fetch(other), do: Argument.wrong!("an Image.ZeroShot.Index or the name of one", other)

  defp model(embedding) do
    embedding = Embedding.check!(embedding)
    %{name: embedding.model, commit: embedding.commit, dim: Embedding.dim(embedding)}
  end

  defp bang!({:ok, value}), do: value
  defp bang!({:error, error}), do: raise(error)

  defimpl Inspect do
    # An error that shows the index would inspect it again, without end: so no function that raises one
    # is called.
    def inspect(%{ref: ref} = index, opts) when is_reference(ref) do
      if node(ref) == node(),
        do: summary(ref),
        else: "#Image.ZeroShot.Index<on #{Kernel.inspect(node(ref))}>"
    rescue
      # A reference of something else.
      ArgumentError -> Inspect.Any.inspect(index, opts)
    end

    # Made by hand.
    def inspect(index, opts), do: Inspect.Any.inspect(index, opts)

    defp summary(ref) do
      {:ok, info} = Image.ZeroShot.Native.index_info(ref)
      noun = if info.size == 1, do: "entry", else: "entries"
      of = if info.model, do: " of #{Kernel.inspect(info.model.name)}"
      "#Image.ZeroShot.Index<#{info.size} #{noun}#{of}, #{info.storage}>"
    end
  end
end
