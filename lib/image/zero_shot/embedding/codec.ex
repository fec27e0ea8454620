defmodule Image.ZeroShot.Embedding.Codec do
  @moduledoc false

  # An embedding as a binary: a line that says what it is, a checksum, its facts, the vector.
  #
  #     "image_zero_shot embedding 1\n"
  #     CRC-32 of all that follows, 32 bits      (numbers are little-endian)
  #     0 for a picture, 1 for a text, 8 bits
  #     length of the model's name, 16 bits; the name
  #     length of the commit, 16 bits, 0 for none; the commit
  #     the vector, 32-bit floats

  alias Image.ZeroShot.Error

  # The number is the version of the layout.
  @magic "image_zero_shot embedding 1\n"

  @kinds %{picture: 0, text: 1}

  @typedoc "The fields of an embedding."
  @type fields :: %{
          required(:vector) => binary(),
          required(:model) => String.t(),
          required(:commit) => String.t() | nil,
          required(:kind) => :picture | :text,
          optional(:__struct__) => module()
        }

  @spec encode(fields()) :: binary()
  def encode(%{vector: vector, model: model, commit: commit, kind: kind}) do
    commit = commit || ""

    body =
      <<Map.fetch!(@kinds, kind)::8, byte_size(model)::16-little, model::binary,
        byte_size(commit)::16-little, commit::binary, vector::binary>>

    <<@magic, :erlang.crc32(body)::32-little, body::binary>>
  end

  @doc """
  Returns the fields of an embedding. That the vector is one of unit length is not checked.
  """
  @spec decode(term()) :: {:ok, fields()} | {:error, Error.t()}
  def decode(<<@magic, crc::32-little, body::binary>>) do
    with ^crc <- :erlang.crc32(body),
         <<kind::8, size::16-little, model::binary-size(size), rest::binary>> <- body,
         <<size::16-little, commit::binary-size(size), vector::binary>> <- rest,
         {:ok, kind} <- kind(kind),
         true <- model != "" and String.valid?(model) and String.valid?(commit),
         0 <- rem(byte_size(vector), 4) do
      # Copies, which do not keep the whole binary alive.
      [vector, model, commit] = Enum.map([vector, model, commit], &:binary.copy/1)
      commit = if commit != "", do: commit
      {:ok, %{vector: vector, model: model, commit: commit, kind: kind}}
    else
      _ -> damaged()
    end
  end

  def decode(_other), do: damaged()

  @doc """
  Whether a binary begins like one of ours.
  """
  @spec header?(binary()) :: boolean()
  def header?(binary), do: String.starts_with?(binary, @magic)

  defp kind(number), do: Enum.find_value(@kinds, fn {kind, n} -> n == number && {:ok, kind} end)

  defp damaged do
    Error.error(
      :invalid_embedding,
      "expected what Image.ZeroShot.Embedding.to_binary/1 wrote, whole; to read a bare vector " <>
        "give its :model"
    )
  end
end
