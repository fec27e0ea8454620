defmodule Image.ZeroShot.Embedding do
  @moduledoc """
  A picture or a text as a unit vector of one model: computed once, kept, compared as often as you like.

  `vector` holds little-endian 32-bit floats, 4 bytes for each dimension (512 for ViT-B/32). `model` and
  `commit` say which model it is of, and `kind` whether a `:picture` or a `:text` was embedded.

      iex> vector = for x <- [3.0, 4.0], into: <<>>, do: <<x::float-32-little>>
      iex> {:ok, embedding} = Image.ZeroShot.Embedding.from_binary(vector, model: "my/model", commit: "1f2e")
      iex> embedding
      #Image.ZeroShot.Embedding<picture, 2 dimensions, "my/model" at 1f2e>
      iex> embedding |> Image.ZeroShot.Embedding.to_list() |> Enum.map(&Float.round(&1, 3))
      [0.6, 0.8]

  ## Store the model with the vector

  Vectors of two models cannot be compared, even where they are equally long, and the result of a
  comparison does not show the mistake. So keep `model` and `commit` beside each vector, or keep
  `to_binary/1`, which has both. Every comparison checks them, and the error `:wrong_model` names
  both sides. A model that is not from the Hub has no commit; what stands in its place, such as
  `"local-9f3c01aa"`, is a checksum of its weights.

  ## Two thresholds

  The cosine of a text and a picture is far lower than that of two pictures, for the same model and the
  same thing:

  | compared | unlike to alike |
  | --- | --- |
  | text with picture | 0.15 to 0.35 |
  | picture with picture | 0.5 to 0.9 |

  These are the ranges of OpenAI's CLIP models on photographs; other models have ranges of their
  own. A search with one limit for both finds nothing by text, or everything by picture: choose
  **two** limits, on data of your own. Two texts, which are compared rarely, have a third range.
  """

  alias Image.ZeroShot.{Error, Native}
  alias Image.ZeroShot.Call.{Argument, Options, Started}
  alias Image.ZeroShot.Embedding.Codec
  alias Image.ZeroShot.Native.Floats
  alias Image.ZeroShot.Serving.Identity

  @compile {:no_warn_undefined, Nx}

  @enforce_keys [:vector, :model, :commit, :kind]
  defstruct [:vector, :model, :commit, :kind]

  @typedoc """
  An embedding.

    * `:vector` - the unit vector, little-endian 32-bit floats
    * `:model` - the model's name, as in `Image.ZeroShot.info/1`
    * `:commit` - the commit of the model, or a checksum of its weights where it has none
    * `:kind` - what was embedded
  """
  @type t :: %__MODULE__{
          vector: binary(),
          model: String.t(),
          commit: String.t() | nil,
          kind: :picture | :text
        }

  @doc """
  Returns the number of dimensions.
  """
  @spec dim(t()) :: pos_integer()
  def dim(embedding), do: embedding |> vector!() |> byte_size() |> div(4)

  @doc """
  Writes an embedding with its model, commit and kind, as a binary that `from_binary/2` reads.

  It takes some 60 bytes more than the vector, and has a checksum. Where these facts are stored
  elsewhere, such as in columns of their own, keep the bare `vector` instead.

  ## Examples

      iex> {:ok, embedding} = Image.ZeroShot.Embedding.from_binary(<<1.0::float-32-little>>, model: "my/model")
      iex> binary = Image.ZeroShot.Embedding.to_binary(embedding)
      iex> Image.ZeroShot.Embedding.from_binary(binary) == {:ok, embedding}
      true

  """
  @spec to_binary(t()) :: binary()
  def to_binary(embedding) do
    _vector = embedding |> check!() |> vector!()
    Codec.encode(embedding)
  end

  @doc """
  Reads an embedding: what `to_binary/1` wrote, or with the option `:model` a bare vector.

  A bare vector is little-endian 32-bit floats, from 1 to 65,535 of them, such as the `vector` of
  an embedding or a vector that another program computed with the same model. It is scaled to
  length 1. A vector that is zero or not finite is an error with the reason `:invalid_embedding`,
  like a binary that is damaged.

  ## Options

  Only for a bare vector:

  #{Image.ZeroShot.Call.OptionTable.docs(:embedding)}

  ## Examples

      iex> {:error, error} = Image.ZeroShot.Embedding.from_binary(<<0::64>>, model: "my/model")
      iex> Exception.message(error)
      "all components of the vector are 0, so it has no direction"

  """
  @spec from_binary(binary(), keyword()) :: {:ok, t()} | {:error, Error.t()}
  def from_binary(binary, opts \\ []) do
    told = Options.embedding!(opts)

    with :ok <- Started.check(),
         {:ok, fields} <- if(told, do: bare(binary, told), else: Codec.decode(binary)),
         {:ok, unit} <- fields.vector |> Floats.swap() |> Native.unit() |> Error.from_native(),
         do: {:ok, struct!(__MODULE__, %{fields | vector: Floats.swap(unit)})}
  end

  defp bare(binary, told) when is_binary(binary) and rem(byte_size(binary), 4) == 0 do
    if Codec.header?(binary),
      do:
        Error.error(
          :invalid_embedding,
          "the binary has a header, which names its model; leave out :model"
        ),
      else: {:ok, Map.put(told, :vector, binary)}
  end

  defp bare(other, _told) do
    got = if is_binary(other), do: "#{byte_size(other)} bytes", else: inspect(other, limit: 5)
    Error.error(:invalid_embedding, "expected a binary of 32-bit floats, got #{got}")
  end

  @doc """
  Returns the components as a list of floats, whose squares sum to 1.

  Libraries that store vectors take such a list, among them Pgvector.
  """
  @spec to_list(t()) :: [float()]
  def to_list(embedding), do: for(<<x::float-32-little <- vector!(embedding)>>, do: x)

  @doc """
  Returns the vector as an `Nx.Tensor` of type `:f32` and shape `{dim}`.

  Raises an `ArgumentError` where Nx is not loaded.
  """
  @spec to_nx(t()) :: struct()
  def to_nx(embedding) do
    vector = vector!(embedding)

    require_module!(
      Nx,
      "to_nx/1",
      "add {:nx, \"~> 0.9\"} to your dependencies, or call to_list/1"
    )

    Nx.from_binary(Floats.swap(vector), {:f, 32})
  end

  @doc """
  Returns the vector as PostgreSQL's extension pgvector sends and receives it.

    * `:wire` - the binary form of the type `vector`: the dimension in 16 bits, 16 zero bits, then 32-bit
      floats, all of them big-endian. For drivers, and for `COPY ... WITH (FORMAT binary)`
    * `:struct` - a `%Pgvector{}` of the library pgvector, which Ecto and Postgrex take as it is. Raises an
      `ArgumentError` where that is not loaded

  ## Examples

      iex> vector = <<1.0::float-32-little, 0.0::float-32-little>>
      iex> {:ok, embedding} = Image.ZeroShot.Embedding.from_binary(vector, model: "my/model")
      iex> Image.ZeroShot.Embedding.to_pgvector(embedding)
      <<0, 2, 0, 0, 0x3F, 0x80, 0, 0, 0, 0, 0, 0>>

  """
  @spec to_pgvector(t(), :wire | :struct) :: binary() | struct()
  def to_pgvector(embedding, form \\ :wire)

  def to_pgvector(embedding, :wire) do
    vector = vector!(embedding)
    <<dim(embedding)::16, 0::16, Floats.reverse(vector)::binary>>
  end

  def to_pgvector(embedding, :struct) do
    _vector = vector!(embedding)
    way_out = "add {:pgvector, \"~> 0.3\"} to your dependencies, or take the wire form"
    require_module!(Pgvector, "to_pgvector(embedding, :struct)", way_out)
    struct!(Pgvector, data: to_pgvector(embedding, :wire))
  end

  def to_pgvector(_embedding, other),
    do: Argument.wrong!("the form to be :wire or :struct", other)

  defp vector!(%__MODULE__{vector: vector})
       when is_binary(vector) and rem(byte_size(vector), 4) == 0,
       do: vector

  defp vector!(%__MODULE__{vector: vector}),
    do: Argument.wrong!("the :vector of an embedding to be a binary of 32-bit floats", vector)

  defp vector!(other), do: check!(other)

  defp require_module!(module, function, way_out) do
    Code.ensure_loaded?(module) ||
      raise ArgumentError, "expected #{inspect(module)} to be loaded for #{function}; #{way_out}"
  end

  @doc """
  Returns the cosine of two embeddings, from -1.0 to 1.0.

  Raises an `Image.ZeroShot.Error` with the reason `:wrong_model` if they are of different models or
  commits. See [Two thresholds](#module-two-thresholds) for what the number says.

  ## Examples

      iex> [one, other] =
      ...>   for vector <- [<<1.0::float-32-little, 0.0::float-32>>, <<0.6::float-32-little, 0.8::float-32-little>>] do
      ...>     {:ok, embedding} = Image.ZeroShot.Embedding.from_binary(vector, model: "my/model")
      ...>     embedding
      ...>   end
      iex> one |> Image.ZeroShot.Embedding.similarity(other) |> Float.round(3)
      0.6

  """
  @spec similarity(t(), t()) :: float()
  def similarity(one, other) do
    case cosine(one, other) do
      {:ok, cosine} -> cosine
      {:error, error} -> raise error
    end
  end

  # The rest is for `Image.ZeroShot`.

  @doc false
  # The fields are public: a struct made of columns of a database was not checked by `from_binary/2`.
  @spec check!(term()) :: t()
  def check!(%__MODULE__{model: model, commit: commit, kind: kind} = embedding) do
    cond do
      not text?(model) ->
        Argument.wrong!("the :model of an embedding to be a string", model)

      not (commit == nil or text?(commit)) ->
        Argument.wrong!("the :commit of an embedding to be a string or nil", commit)

      kind not in [:picture, :text] ->
        Argument.wrong!("the :kind of an embedding to be :picture or :text", kind)

      true ->
        embedding
    end
  end

  def check!(other), do: wrong!("an Image.ZeroShot.Embedding", other)

  @doc false
  @spec wrong!(String.t(), term()) :: no_return()
  def wrong!(expected, got), do: Argument.wrong!(expected, got, way_out(got))

  defp way_out({:ok, %__MODULE__{}}), do: "take the embedding out of {:ok, embedding}"

  defp way_out(_other) do
    "Image.ZeroShot.embed/2 makes one of a picture, and Image.ZeroShot.embed_text/2 of a text"
  end

  defp text?(term), do: is_binary(term) and String.valid?(term)

  @doc false
  @spec cosine(t(), t()) :: {:ok, float()} | {:error, Error.t()}
  def cosine(one, other) do
    with :ok <- Started.check(),
         :ok <- check_same(one, other),
         do: one |> row() |> Native.cosine(row(other)) |> Error.from_native()
  end

  @doc false
  # One row of what a model computed, in the byte order of the machine.
  @spec new(binary(), Identity.t(), :picture | :text) :: t()
  def new(row, %{name: name, commit: commit}, kind) do
    # A copy, which does not keep the rows of a whole batch alive.
    vector = row |> Floats.swap() |> :binary.copy()
    %__MODULE__{vector: vector, model: name, commit: commit, kind: kind}
  end

  @doc false
  # And back.
  @spec row(t()) :: binary()
  def row(%__MODULE__{vector: vector}), do: Floats.swap(vector)

  @doc false
  @spec check_same(t(), t()) :: :ok | {:error, Error.t()}
  def check_same(one, other) do
    with :ok <- check(one), :ok <- check(other) do
      if identity(one) == identity(other),
        do: :ok,
        else:
          Error.error(
            :wrong_model,
            "the embeddings are of different models, #{shown(one)} and #{shown(other)}; " <>
              "embed both with one of them"
          )
    end
  end

  @doc false
  @spec check_model(t(), Identity.t()) :: :ok | {:error, Error.t()}
  def check_model(embedding, model) do
    with :ok <- check(embedding) do
      if identity(embedding) == Map.take(model, [:name, :commit, :dim]),
        do: :ok,
        else:
          Error.error(
            :wrong_model,
            "the embedding is of #{shown(embedding)}, and the call goes to #{Identity.shown(model)}; " <>
              "embed it again with that model, or name the other one"
          )
    end
  end

  defp check(embedding) do
    %{vector: vector} = check!(embedding)

    with {:ok, %{vector: vector}} <- bare(vector, %{}),
         {:ok, _unit} <- vector |> Floats.swap() |> Native.unit() |> Error.from_native(),
         do: :ok
  end

  defp identity(%{model: name, commit: commit} = embedding),
    do: %{name: name, commit: commit, dim: dim(embedding)}

  defp shown(embedding), do: embedding |> identity() |> Identity.shown()

  defimpl Inspect do
    def inspect(%{vector: vector, model: model, commit: commit, kind: kind}, _opts)
        when is_binary(vector) and is_atom(kind) and (commit == nil or is_binary(commit)) do
      commit = if commit, do: " at #{String.slice(commit, 0, 14)}"

      "#Image.ZeroShot.Embedding<#{kind}, #{div(byte_size(vector), 4)} dimensions, " <>
        "#{Kernel.inspect(model)}#{commit}>"
    end

    # Made by hand.
    def inspect(embedding, opts), do: Inspect.Any.inspect(embedding, opts)
  end
end
