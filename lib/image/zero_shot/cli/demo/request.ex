defmodule Image.ZeroShot.CLI.Demo.Request do
  @moduledoc false

  # Reads a request from a socket, each part within its time and size.

  @enforce_keys [:method, :path, :headers]
  defstruct [:method, :path, :headers, body: ""]

  @type t :: %__MODULE__{
          method: String.t(),
          path: String.t(),
          headers: %{optional(String.t()) => String.t()},
          body: binary()
        }

  @type refusal :: {:refused, status :: pos_integer(), message :: String.t()}

  # Two of one of these can be read in two ways.
  @single ~w(host origin content-length transfer-encoding sec-fetch-site sec-fetch-mode)

  @chunk 262_144

  @doc """
  Reads the request line and the headers. `:gone` if the client has left.
  """
  @spec head(:inet.socket(), map()) :: {:ok, t()} | refusal() | :gone
  def head(socket, limits) do
    reader = %{socket: socket, until: now() + limits.head_ms, left: limits.head_bytes, rest: ""}

    case line(reader, :http_bin) do
      {:ok, {:http_request, method, {:abs_path, path}, {1, _minor}}, reader} ->
        with {:ok, headers, rest} <- headers(reader, limits.headers, %{}) do
          path = path |> String.split(["?", "#"], parts: 2) |> hd()
          {:ok, %__MODULE__{method: "#{method}", path: path, headers: headers, body: rest}}
        end

      {:ok, {:http_request, _method, {:abs_path, _path}, _version}, _reader} ->
        {:refused, 505, "expected HTTP/1.1"}

      {:ok, _other, _reader} ->
        {:refused, 400, "expected a request such as GET / HTTP/1.1"}

      other ->
        other
    end
  end

  defp headers(reader, left, headers) do
    case line(reader, :httph_bin) do
      {:ok, :http_eoh, reader} ->
        {:ok, headers, reader.rest}

      {:ok, {:http_header, _, _name, _, _value}, _reader} when left == 0 ->
        {:refused, 431, "too many headers"}

      {:ok, {:http_header, _, name, _, value}, reader} ->
        name = String.downcase("#{name}", :ascii)

        if name in @single and is_map_key(headers, name),
          do: {:refused, 400, "expected one header #{name}, got two"},
          else: headers(reader, left - 1, Map.put(headers, name, value))

      {:ok, _no_header, _reader} ->
        {:refused, 400, "expected a header such as Host: 127.0.0.1"}

      other ->
        other
    end
  end

  defp line(reader, type) do
    case :erlang.decode_packet(type, reader.rest, []) do
      {:ok, line, rest} ->
        {:ok, line,
         %{reader | left: reader.left - byte_size(reader.rest) + byte_size(rest), rest: rest}}

      {:more, _length} when byte_size(reader.rest) < reader.left ->
        with {:ok, bytes} <- more(reader.socket, 0, reader.until, "head"),
             do: line(%{reader | rest: reader.rest <> bytes}, type)

      {:more, _length} ->
        {:refused, 431, "the head of the request is too long"}

      {:error, _invalid} ->
        {:refused, 400, "expected a request such as GET / HTTP/1.1"}
    end
  end

  defp more(socket, length, until, part) do
    case :gen_tcp.recv(socket, length, max(until - now(), 0)) do
      {:error, :timeout} -> {:refused, 408, "the #{part} of the request took too long"}
      {:error, _closed} -> :gone
      {:ok, bytes} -> {:ok, bytes}
    end
  end

  @doc """
  The number of bytes of the body that is announced.
  """
  @spec body_length(t(), non_neg_integer()) :: {:ok, non_neg_integer()} | refusal()
  def body_length(request, most) do
    announced = Map.get(request.headers, "content-length", "0")

    cond do
      is_map_key(request.headers, "transfer-encoding") ->
        {:refused, 411, "expected a body with a Content-Length"}

      not (announced =~ ~r/\A[0-9]+\z/) ->
        {:refused, 400, "expected Content-Length to be a number"}

      # Digits are compared by their count first: a number of a thousand digits is not worth reading.
      byte_size(announced) > 12 or String.to_integer(announced) > most ->
        {:refused, 413, "the body is larger than #{most} bytes"}

      true ->
        {:ok, String.to_integer(announced)}
    end
  end

  @doc """
  Reads the rest of the body.
  """
  @spec body(:inet.socket(), t(), non_neg_integer(), map()) :: {:ok, t()} | refusal() | :gone
  def body(socket, request, length, limits) do
    # What comes behind the body is not ours.
    began = binary_part(request.body, 0, min(byte_size(request.body), length))
    left = length - byte_size(began)

    with :ok <- continue(socket, request, left),
         {:ok, body} <- chunks(socket, left, now() + limits.body_ms, [began]),
         do: {:ok, %{request | body: body}}
  end

  # curl asks before it sends more than a megabyte, and waits a second for the answer.
  defp continue(socket, %{headers: %{"expect" => expected}}, left) when left > 0 do
    if String.downcase(expected, :ascii) == "100-continue",
      do:
        with(
          {:error, _closed} <- :gen_tcp.send(socket, "HTTP/1.1 100 Continue\r\n\r\n"),
          do: :gone
        ),
      else: {:refused, 417, "expected no Expect but 100-continue"}
  end

  defp continue(_socket, _request, _left), do: :ok

  defp chunks(_socket, 0, _until, chunks),
    do: {:ok, chunks |> Enum.reverse() |> IO.iodata_to_binary()}

  defp chunks(socket, left, until, chunks) do
    with {:ok, chunk} <- more(socket, min(left, @chunk), until, "body"),
         do: chunks(socket, left - byte_size(chunk), until, [chunk | chunks])
  end

  defp now, do: System.monotonic_time(:millisecond)
end
